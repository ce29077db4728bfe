{{/* Beginning of all names. */}}
{{- define "clipserve.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of a part: a dict with `root` and `part`. */}}
{{- define "clipserve.selector" -}}
app.kubernetes.io/name: clipserve
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "clipserve.labels" -}}
{{ include "clipserve.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* What all pods have: no token of the cluster's, no root. A dict with `root`, `user`. */}}
{{- define "clipserve.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "clipserve.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Options that the writing and the reading sidecars share: a dict with `root`, `part`. */}}
{{- define "clipserve.search.args" -}}
{{- $root := .root -}}
- clipserve
- search
- serve
- --triton
- {{ include "clipserve.name" $root }}-triton:8001
- --host
- 0.0.0.0
- --port
- "1234"
- --memory
- {{ $root.Values.search.memoryGb | quote }}
{{- $service := printf "%s-%s" (include "clipserve.name" $root) .part }}
{{- $own := printf "%s.%s" $service $root.Release.Namespace }}
{{- range concat (list $service $own (printf "%s.svc" $own) (printf "%s.svc.cluster.local" $own)) $root.Values.search.names }}
- --name
- {{ . | quote }}
{{- end }}
{{- if $root.Values.search.tokenSecret }}
- --token-file
- /token/token
{{- end }}
{{- range $root.Values.search.args }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "clipserve.search.container" -}}
image: {{ .Values.images.search | quote }}
imagePullPolicy: {{ .Values.pullPolicy }}
ports:
  - {name: http, containerPort: 1234}
startupProbe:
  httpGet: {path: /health/live, port: http}
  periodSeconds: 2
  failureThreshold: 150
livenessProbe:
  httpGet: {path: /health/live, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /health/ready, port: http}
  periodSeconds: 5
  timeoutSeconds: 3
{{- with .Values.search.storeSecret }}
envFrom:
  - secretRef: {name: {{ . | quote }}}
{{- end }}
resources: {{ toJson .Values.search.resources }}
{{ include "clipserve.container" . }}
{{- end -}}

{{- define "clipserve.search.mounts" -}}
- {name: scratch, mountPath: /tmp}
{{- if .Values.search.tokenSecret }}
- {name: token, mountPath: /token, readOnly: true}
{{- end }}
{{- end -}}

{{- define "clipserve.search.volumes" -}}
- name: scratch
  emptyDir: {sizeLimit: 10Gi}
{{- with .Values.search.tokenSecret }}
- name: token
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- end -}}
