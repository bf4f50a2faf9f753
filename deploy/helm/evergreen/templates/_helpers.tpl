{{- define "evergreen.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The labels that select the pods of a component: dict "root" $ "component" NAME */}}
{{- define "evergreen.selector" -}}
app.kubernetes.io/name: evergreen
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "evergreen.labels" -}}
{{ include "evergreen.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "evergreen.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "evergreen.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "evergreen.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "evergreen.scheme" -}}
{{ if .Values.tls.secretName }}https{{ else }}http{{ end }}
{{- end -}}

{{- define "evergreen.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
# Otherwise each new pod opens the files of the data directory to the group, and the broker refuses them.
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "evergreen.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* The specification of a pod of brokers or gateways, without its containers: dict "root" $ "values" VALUES "selector" LABELS */}}
{{- define "evergreen.pod" -}}
serviceAccountName: {{ include "evergreen.serviceAccountName" .root }}
automountServiceAccountToken: false
# Variables of Services begin with EVERGREEN_, too.
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
# Above what a shutdown takes: EVERGREEN_DRAIN, in which others turn to another pod, and EVERGREEN_SHUTDOWN_TIMEOUT, in
# which work in flight is finished.
terminationGracePeriodSeconds: {{ add .root.Values.shutdown.drainSeconds .root.Values.shutdown.timeoutSeconds 10 }}
securityContext: {{ include "evergreen.podSecurityContext" .root | nindent 2 }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: { matchLabels: { {{- .selector | replace "\n" ", " -}} } }
{{- with .values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Settings of brokers and gateways: dict "root" $ "values" VALUES */}}
{{- define "evergreen.env" -}}
- { name: EVERGREEN_ACCESS_KEYS_FILE, value: /secrets/access-keys }
- { name: EVERGREEN_LOG, value: {{ .root.Values.log.level | quote }} }
- { name: EVERGREEN_LOG_FORMAT, value: {{ .root.Values.log.format }} }
- { name: EVERGREEN_DRAIN, value: {{ .root.Values.shutdown.drainSeconds }}s }
- { name: EVERGREEN_SHUTDOWN_TIMEOUT, value: {{ .root.Values.shutdown.timeoutSeconds }}s }
{{- with .root.Values.ghl.apiUrl }}
- { name: GHL_API_URL, value: {{ . | quote }} }
{{- end }}
{{- if .root.Values.tls.secretName }}
- { name: EVERGREEN_TLS_CERT, value: /tls/tls.crt }
- { name: EVERGREEN_TLS_KEY, value: /tls/tls.key }
{{- end }}
{{- range $name, $value := .values.env }}
- { name: {{ $name }}, value: {{ $value | toString | quote }} }
{{- end }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* As kubernetes/gateway.yaml has it. */}}
{{- define "evergreen.probes" -}}
readinessProbe:
  httpGet: { path: /readyz, port: internal, scheme: {{ include "evergreen.scheme" . | upper }} }
  periodSeconds: 1
  failureThreshold: 2
livenessProbe:
  httpGet: { path: /livez, port: internal, scheme: {{ include "evergreen.scheme" . | upper }} }
  periodSeconds: 10
  failureThreshold: 6
{{- end -}}

{{- define "evergreen.volumeMounts" -}}
- { name: secrets, mountPath: /secrets, readOnly: true }
{{- if .root.Values.tls.secretName }}
- { name: tls, mountPath: /tls, readOnly: true }
{{- end }}
{{- with .values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* dict "root" $ "values" VALUES "secret" NAME */}}
{{- define "evergreen.volumes" -}}
- name: secrets
  secret: { secretName: {{ .secret }}, defaultMode: 0440 }
{{- if .root.Values.tls.secretName }}
- name: tls
  secret: { secretName: {{ .root.Values.tls.secretName }}, defaultMode: 0440 }
{{- end }}
{{- with .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
