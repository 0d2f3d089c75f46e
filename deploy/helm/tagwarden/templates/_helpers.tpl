{{- define "tagwarden.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tagwarden.selector" -}}
app.kubernetes.io/name: tagwarden
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tagwarden.labels" -}}
{{ include "tagwarden.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "tagwarden.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "tagwarden.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "tagwarden.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "tagwarden.probe" -}}
{{- if .root.Values.status.expose -}}
httpGet:
  path: {{ .path }}
  port: status
{{- else -}}
exec:
  command: [/usr/local/bin/tagwarden, health{{ if eq .path "/readyz" }}, --ready{{ end }}, --config, /etc/tagwarden/tagwarden.toml]
{{- end }}
{{- end }}
