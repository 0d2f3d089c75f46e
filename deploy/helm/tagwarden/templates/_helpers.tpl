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

{{- define "tagwarden.state" -}}
{{- $url := .Values.state.postgres.url }}
{{- /* A pattern in the schema would make Helm print the password. */ -}}
{{- if or (contains ":" (urlParse $url).userinfo) (regexMatch "[?&]password=" $url) }}
{{- fail "state.postgres.url must not contain a password: put it into `existingSecret`, and name its key in state.postgres.passwordKey" }}
{{- end }}
{{- $url | default "sqlite:/var/lib/tagwarden/tagwarden.db" }}
{{- end }}

{{- define "tagwarden.databasePort" -}}
{{ (urlParse .Values.state.postgres.url).host | regexFind ":[0-9]+$" | trimPrefix ":" | default "5432" }}
{{- end }}

{{- define "tagwarden.antiAffinity" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    {{- range $key, $weight := dict "kubernetes.io/hostname" 100 "topology.kubernetes.io/zone" 50 }}
    - weight: {{ $weight }}
      podAffinityTerm:
        topologyKey: {{ $key }}
        labelSelector:
          matchLabels:
            {{- include "tagwarden.selector" $ | nindent 12 }}
    {{- end }}
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
