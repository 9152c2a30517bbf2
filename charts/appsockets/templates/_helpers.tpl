{{- /* Labels of every object. */}}
{{- define "appsockets.labels" -}}
app.kubernetes.io/name: appsockets-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- /* Cluster or nothing, before Role and RoleBinding. */}}
{{- define "appsockets.scope" -}}
{{ ternary "" "Cluster" .Values.operator.namespaced }}
{{- end }}
