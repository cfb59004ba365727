{{- define "tallyhook.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Given a list: the root and the component. */}}
{{- define "tallyhook.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "tallyhook.labels" -}}
{{ include "tallyhook.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{/* A pod's spec without its containers' own part. */}}
{{- define "tallyhook.pod" -}}
serviceAccountName: {{ .Values.serviceAccountName }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
volumes:
  - name: tmp
    emptyDir: {}
  - name: data
    emptyDir: {}
  - name: secrets
    projected:
      defaultMode: 288 # 0440
      sources:
        {{- range $setting, $from := .Values.secrets }}
        {{- if $from }}
        - secret:
            name: {{ $from.name }}
            items: [{key: {{ $from.key }}, path: {{ $setting }}}]
        {{- end }}
        {{- end }}
  {{- with .Values.extraVolumes }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}

{{/* What all our containers share. */}}
{{- define "tallyhook.container" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
env:
  {{- range $setting, $from := .Values.secrets }}
  {{- if $from }}
  - {name: {{ $setting }}_FILE, value: /run/secrets/tallyhook/{{ $setting }}}
  {{- end }}
  {{- end }}
  {{- range $setting, $value := .Values.settings }}
  {{- if ne (toString $value) "" }}
  - name: {{ $setting }}
    value: {{ if kindIs "float64" $value }}{{ ternary (printf "%.0f" $value) (toString $value) (eq $value (floor $value)) | quote }}{{ else }}{{ toString $value | quote }}{{ end }}
  {{- end }}
  {{- end }}
  {{- with .Values.extraEnv }}{{ toYaml . | nindent 2 }}{{ end }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: data, mountPath: /data}
  - {name: secrets, mountPath: /run/secrets/tallyhook, readOnly: true}
  {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}

{{/* A Deployment. Given a list: the root, the component, its values, and its arguments. */}}
{{- define "tallyhook.deployment" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}{{ $values := index . 2 -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "tallyhook.name" $root }}-{{ $component }}
  labels: {{- include "tallyhook.labels" (list $root $component) | nindent 4 }}
spec:
  {{- if not (or $values.autoscaling.byCPU $values.autoscaling.byQueueAge) }}
  replicas: {{ $values.replicas }}
  {{- end }}
  selector:
    matchLabels: {{- include "tallyhook.selector" (list $root $component) | nindent 6 }}
  strategy:
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  template:
    metadata:
      labels: {{- include "tallyhook.labels" (list $root $component) | nindent 8 }}
      {{- with $root.Values.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "tallyhook.pod" $root | nindent 6 }}
      # After SIGTERM a process takes nothing new, and is gone within 15 seconds.
      terminationGracePeriodSeconds: 30
      topologySpreadConstraints:
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- include "tallyhook.selector" (list $root $component) | nindent 14 }}
        {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ $component }}
          {{- include "tallyhook.container" $root | nindent 10 }}
          args: {{ index . 3 | toJson }}
          ports: [{name: http, containerPort: 8000}]
          # Alive: the process answers. Ready: database, schema and, of a worker, its heartbeat. A database that is down
          # restarts nothing.
          startupProbe:
            httpGet: {path: /health/live, port: http}
            periodSeconds: 1
            failureThreshold: 60
          livenessProbe:
            httpGet: {path: /health/live, port: http}
            periodSeconds: 10
            timeoutSeconds: 4
          readinessProbe:
            httpGet: {path: /health/ready, port: http}
            periodSeconds: 5
            timeoutSeconds: 4
          lifecycle:
            preStop:
              exec: {command: [sleep, "5"]} # until no more requests are sent here
          resources: {{- toYaml $values.resources | nindent 12 }}
{{- end }}
