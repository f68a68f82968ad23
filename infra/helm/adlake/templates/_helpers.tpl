{{/* The names of the objects begin with it: the release, and the chart if the release does not name it. */}}
{{- define "adlake.name" -}}
{{- if contains "adlake" .Release.Name }}{{ .Release.Name | trunc 35 | trimSuffix "-" }}{{ else }}{{ printf "%s-adlake" .Release.Name | trunc 35 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{/* What selects the pods of a part: (dict "root" $ "part" "speed"). */}}
{{- define "adlake.selector" -}}
app.kubernetes.io/name: adlake
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "adlake.labels" -}}
{{ include "adlake.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "adlake.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "adlake.containerSecurity" -}}
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: { drop: [ALL] }
{{- end }}

{{- define "adlake.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "adlake.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - { name: {{ . }} }
  {{- end }}
{{- end }}
{{- end }}

{{/* A map of variables as the list that a container has. */}}
{{- define "adlake.variables" -}}
{{- range $name, $value := . }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end }}

{{- define "adlake.work" -}}
volumeMounts:
  - { name: work, mountPath: /var/lib/adlake }
{{- end }}
