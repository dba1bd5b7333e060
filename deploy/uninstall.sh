#!/usr/bin/env bash
# Removes the installation in the order that leaves nothing stuck. With the caches go their files on the nodes' disks.
#
#   deploy/uninstall.sh [--keep-models] [OVERLAY]
#   deploy/uninstall.sh [--keep-models] --helm RELEASE [--namespace NAMESPACE] [--crds]
#
# --keep-models leaves the files where they are. A later installation fetches nothing again, when it is told of the caches before the
# node groups, and within the controller's removal_grace_seconds (5 minutes): what no cache names by then is removed.
# OVERLAY: the one that was applied, `default` unless told. With `kserve` the CRDs stay, and so do the node groups and the
# namespace of the credentials; with `default` all of it goes, Secrets in kserve-localmodel-jobs included.
# --helm: the release, in the namespace that `helm install` was told. What the chart made goes, so Secrets in kserve-localmodel-jobs too,
# unless createCredentialsNamespace was false. The CRDs and the node groups stay without --crds.
# Where KServe is, its CRDs are never deleted.
#
# A cache that services use is not deleted: the API server says which, and nothing has been changed until then.
# Nodes that are not Ready are named: their files stay on their disks.
# It may be run again wherever it stopped. It needs kubectl, with --helm also helm, and a cluster admin's rights.
set -euo pipefail

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }

keep=
overlay=
release=
release_namespace=()
crds=
while [ $# -gt 0 ]; do
  case $1 in
    --keep-models) keep=yes ;;
    --helm) release=${2:-}; [ -n "$release" ] || usage; shift ;;
    --namespace) release_namespace=(--namespace "${2:-}"); [ -n "${2:-}" ] || usage; shift ;;
    --crds) crds=yes ;;
    -*) usage ;;
    *) [ -z "$overlay" ] || usage; overlay=$1 ;;
  esac
  shift
done
if [ -n "$release" ]; then
  [ -z "$overlay" ] || usage
else
  [ -z "$crds${release_namespace[*]}" ] || usage
  overlay=${overlay:-default}
  [ "$overlay" = kserve ] || crds=yes
fi
here=$(cd "$(dirname "$0")" && pwd)
[ -n "$release" ] || test -d "$here/overlays/$overlay" || { echo "there is no overlay $overlay" >&2; exit 2; }
# Nodes that are away are waited for as long as the controller's deletion_silence_seconds says: 15 minutes.
patience=20m
caches=localmodelcaches.serving.kserve.io,localmodelnamespacecaches.serving.kserve.io
ours=app.kubernetes.io/part-of=localmodel

has_crd() { [ -n "$(kubectl get crd "$@" -o name --ignore-not-found)" ]; }
served() { has_crd localmodelcaches.serving.kserve.io; }

# Nodes with pods of ours that nobody ends, because the kubelet is away.
away() {
  kubectl get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' |
    while read -r node ready; do
      [ "$ready" != True ] || continue
      [ -z "$(kubectl get pods --all-namespaces -l $ours --field-selector "spec.nodeName=$node" -o name)" ] || echo "$node"
    done
}

stop() {
  kubectl -n localmodel-agents delete daemonset localmodel-agent --ignore-not-found --timeout=$patience
  kubectl -n localmodel-system delete deployment localmodel-controller --ignore-not-found --timeout=$patience
  for node in $(away); do
    for namespace in localmodel-agents localmodel-system; do
      kubectl -n $namespace delete pods -l $ours --field-selector "spec.nodeName=$node" --force --grace-period=0
    done
  done
  for namespace in localmodel-agents localmodel-system; do
    kubectl -n $namespace wait pods -l $ours --for=delete --timeout=$patience
  done
}

if [ -n "$crds" ] && has_crd inferenceservices.serving.kserve.io llminferenceservices.serving.kserve.io; then
  echo "KServe is installed here, and what it needs would go too: use \`$0 kserve\`, or --helm without --crds" >&2
  exit 1
fi
[ -z "$release" ] || helm status "$release" "${release_namespace[@]}" >/dev/null
for node in $(away); do
  echo "node $node is not Ready: its files stay on its disk"
  [ -n "$keep" ] || echo "the deletion of the caches waits 15 minutes for it, or until \`kubectl delete node $node\`"
done
if served; then
  echo "checking that no service uses a cache"
  kubectl delete "$caches" --all --all-namespaces --dry-run=server >/dev/null
  if [ -n "$keep" ]; then
    # Nobody is left to remove files, nor to wait for their removal.
    echo "stopping the agents and the controller"
    stop
    kubectl get "$caches" --all-namespaces --no-headers \
        -o custom-columns=KIND:.kind,NAME:.metadata.name,NAMESPACE:.metadata.namespace,FINALIZERS:.metadata.finalizers |
      while read -r kind name namespace finalizers; do
        case $finalizers in
          "[localmodel.kserve.io/finalizer]" | "[localmodelnamespacecache.kserve.io/finalizer]")
            scope=(); [ "$namespace" = "<none>" ] || scope=(-n "$namespace")
            kubectl patch "${kind,,}s.serving.kserve.io" "$name" "${scope[@]}" --type=merge -p '{"metadata":{"finalizers":null}}' ;;
          "<none>") ;;
          *) echo "$kind $name has finalizers of others too: $finalizers" >&2; exit 1 ;;
        esac
      done
  fi
  echo "deleting the caches${keep:+, but not their files}"
  kubectl delete "$caches" --all --all-namespaces --timeout=$patience
  [ -z "$crds" ] || kubectl delete localmodelnodegroups.serving.kserve.io --all --timeout=1m
fi
stop
# The volume of a namespace's cache has no owner that would take it along.
kubectl get pv --no-headers -o custom-columns=NAME:.metadata.name,CACHE:'.metadata.annotations.localmodel\.kserve\.io/cache' |
  while read -r volume cache; do
    case $cache in */*) kubectl delete pv "$volume" --wait=false ;; esac
  done
if served; then
  kubectl delete localmodelnodes.serving.kserve.io --all --timeout=1m
  [ -z "$crds" ] || kubectl delete -k "$here/crds" --ignore-not-found --timeout=$patience
fi
if [ -n "$release" ]; then
  echo "uninstalling the release $release"
  helm uninstall "$release" "${release_namespace[@]}" --wait --timeout $patience
else
  echo "deleting what was applied from overlays/$overlay"
  kubectl delete -k "$here/overlays/$overlay" --ignore-not-found --timeout=$patience
fi
