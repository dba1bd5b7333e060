#!/usr/bin/env bash
# Removes the installation in the order that leaves nothing stuck. With the caches go their files on the nodes' disks.
#
#   deploy/uninstall.sh [--keep-models] [OVERLAY]
#
# --keep-models leaves the files where they are. A later installation fetches nothing again, when it is told of the caches before the
# node groups, and within the controller's removal_grace_seconds (5 minutes): what no cache names by then is removed.
# OVERLAY: the one that was applied, `default` unless told. With `kserve` the CRDs stay, and so do the node groups and the
# namespace of the credentials; with `default` all of it goes, Secrets in kserve-localmodel-jobs included.
#
# A cache that services use is not deleted: the API server says which, and nothing has been changed until then.
# It may be run again wherever it stopped. It needs kubectl and a cluster admin's rights.
set -euo pipefail

keep=
overlay=default
for argument in "$@"; do
  case $argument in
    --keep-models) keep=yes ;;
    -*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2 ;;
    *) overlay=$argument ;;
  esac
done
here=$(cd "$(dirname "$0")" && pwd)
test -d "$here/overlays/$overlay" || { echo "there is no overlay $overlay" >&2; exit 2; }
# Nodes that are away are waited for as long as the controller's deletion_silence_seconds says: 15 minutes.
patience=20m
caches=localmodelcaches.serving.kserve.io,localmodelnamespacecaches.serving.kserve.io

served() { kubectl get crd localmodelcaches.serving.kserve.io -o name --ignore-not-found | grep -q .; }

if served; then
  echo "checking that no service uses a cache"
  kubectl delete "$caches" --all --all-namespaces --dry-run=server >/dev/null
  if [ -n "$keep" ]; then
    # Nobody is left to remove files, nor to wait for their removal.
    echo "stopping the agents and the controller"
    kubectl -n localmodel-agents delete daemonset localmodel-agent --cascade=foreground --ignore-not-found --timeout=$patience
    kubectl -n localmodel-system delete deployment localmodel-controller --cascade=foreground --ignore-not-found --timeout=$patience
    kubectl get "$caches" --all-namespaces --no-headers \
        -o custom-columns=KIND:.kind,NAME:.metadata.name,NAMESPACE:.metadata.namespace,FINALIZERS:.metadata.finalizers |
      while read -r kind name namespace finalizers; do
        # The volume of a namespace's cache has no owner that would take it along.
        if [ "$namespace" != "<none>" ]; then
          kubectl get pv -o custom-columns=NAME:.metadata.name,CACHE:'.metadata.annotations.localmodel\.kserve\.io/cache' --no-headers |
            while read -r volume cache; do
              [ "$cache" != "$namespace/$name" ] || kubectl delete pv "$volume" --wait=false
            done
        fi
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
  [ "$overlay" = kserve ] || kubectl delete localmodelnodegroups.serving.kserve.io --all --timeout=1m
fi
echo "deleting what was applied from overlays/$overlay"
kubectl delete -k "$here/overlays/$overlay" --ignore-not-found --timeout=$patience
if served; then
  kubectl delete localmodelnodes.serving.kserve.io --all --timeout=1m
fi
