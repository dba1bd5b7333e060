{{/* What is set of the programs' settings, as YAML. */}}
{{- define "localmodel.agent" -}}
{{- $set := dict }}
{{- if ne .Values.agent.hostPath "/models" }}{{ $_ := set $set "host_path" .Values.agent.hostPath }}{{ end }}
{{- if ne (int64 .Values.agent.maxBytesPerSecond) 0 }}{{ $_ := set $set "max_bytes_per_second" (int64 .Values.agent.maxBytesPerSecond) }}{{ end }}
{{- if ne (float64 .Values.agent.minFreePercent) 5.0 }}{{ $_ := set $set "min_free_percent" .Values.agent.minFreePercent }}{{ end }}
{{- if not (kindIs "invalid" .Values.agent.gid) }}{{ $_ := set $set "gid" (int64 .Values.agent.gid) }}{{ end }}
{{- if ne .Values.credentialsNamespace "kserve-localmodel-jobs" }}{{ $_ := set $set "credentials_namespace" .Values.credentialsNamespace }}{{ end }}
{{- merge $set .Values.agent.settings | toYaml }}
{{- end }}
{{- define "localmodel.controller" -}}
{{- $set := dict }}
{{- if not .Values.controller.ui }}{{ $_ := set $set "ui" false }}{{ end }}
{{- if ne .Values.credentialsNamespace "kserve-localmodel-jobs" }}{{ $_ := set $set "credentials_namespace" .Values.credentialsNamespace }}{{ end }}
{{- merge $set .Values.controller.settings | toYaml }}
{{- end }}
