{{/* Names, labels and the few decisions that several templates share. */}}

{{- define "opsadmin-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of each object in the namespace of the release. */}}
{{- define "opsadmin-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* The name of each object outside the namespace of the release. Two releases of one name in two namespaces must not
share such an object. */}}
{{- define "opsadmin-operator.outerName" -}}
{{- printf "%s-%s" .Release.Namespace (include "opsadmin-operator.fullname" .) }}
{{- end }}

{{- define "opsadmin-operator.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "opsadmin-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "opsadmin-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "opsadmin-operator.labels" -}}
helm.sh/chart: {{ include "opsadmin-operator.chart" . }}
{{ include "opsadmin-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: opsadmin-operator
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A line break and `annotations:`, with those of one object and the common ones. Nothing if there are none. Arguments: a
list of the root, a dict, and the indentation. */}}
{{- define "opsadmin-operator.annotations" -}}
{{- $indent := index . 2 | int }}
{{- with merge (dict) (index . 1) (index . 0).Values.commonAnnotations }}
{{- printf "annotations:%s" (toYaml . | nindent 2) | nindent $indent }}
{{- end }}
{{- end }}

{{- define "opsadmin-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "opsadmin-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: name the existing ServiceAccount, or set serviceAccount.create to true" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "opsadmin-operator.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* "true" for PostgreSQL, else empty. */}}
{{- define "opsadmin-operator.isPostgresql" -}}
{{- if eq .Values.database.type "postgresql" }}true{{ end }}
{{- end }}

{{- define "opsadmin-operator.replicas" -}}
{{- if kindIs "invalid" .Values.replicas }}
{{- if include "opsadmin-operator.isPostgresql" . }}2{{ else }}1{{ end }}
{{- else }}
{{- int .Values.replicas }}
{{- end }}
{{- end }}

{{/* "true" if the replicas elect a leader, else empty. */}}
{{- define "opsadmin-operator.elects" -}}
{{- if and (include "opsadmin-operator.isPostgresql" .) (ne .Values.leaderElection.mode "off") }}true{{ end }}
{{- end }}

{{- define "opsadmin-operator.leaseName" -}}
{{- default (include "opsadmin-operator.fullname" .) .Values.leaderElection.leaseName }}
{{- end }}

{{- define "opsadmin-operator.claimName" -}}
{{- default (printf "%s-database" (include "opsadmin-operator.fullname" .)) .Values.database.sqlite.existingClaim }}
{{- end }}

{{/* The Secret with the keyring. Empty: the keyring is on the volume, beside the SQLite file. */}}
{{- define "opsadmin-operator.keyringSecret" -}}
{{- if .Values.keyring.existingSecret }}
{{- .Values.keyring.existingSecret }}
{{- else if .Values.keyring.create }}
{{- default (printf "%s-keyring" (include "opsadmin-operator.fullname" .)) .Values.keyring.createdSecret }}
{{- end }}
{{- end }}

{{/* The URL of PostgreSQL from its parts, without the password. Arguments: a list of the root, and the values that name the
user and the Secret. */}}
{{- define "opsadmin-operator.databaseUrl" -}}
{{- $root := index . 0 }}
{{- $pg := $root.Values.database.postgresql }}
{{- $host := $pg.host }}
{{- $user := (index . 1).user | urlquery | replace "+" "%20" }}
{{- $database := $pg.database | urlquery | replace "+" "%20" }}
{{- printf "postgres://%s@%s:%d/%s?sslmode=%s" $user $host (int $pg.port) $database $pg.tls.mode }}
{{- if include "opsadmin-operator.hasDatabaseCa" $root }}&sslrootcert=/etc/opsadmin-database-ca/{{ $pg.tls.caKey }}{{ end }}
{{- end }}

{{- define "opsadmin-operator.hasDatabaseCa" -}}
{{- with .Values.database.postgresql.tls }}{{ if or .caSecret .caConfigMap }}true{{ end }}{{ end }}
{{- end }}

{{/* The environment that names the database. Arguments: as above. */}}
{{- define "opsadmin-operator.databaseEnv" -}}
{{- $root := index . 0 }}
{{- $login := index . 1 -}}
- name: OPSADMIN_DATABASE_URL
{{- if not (include "opsadmin-operator.isPostgresql" $root) }}
  value: sqlite:///var/lib/opsadmin/opsadmin.db
{{- else if $root.Values.database.postgresql.host }}
  value: {{ include "opsadmin-operator.databaseUrl" . | quote }}
{{- if $login.existingSecret }}
- name: OPSADMIN_DATABASE_PASSWORD_FILE
  value: /etc/opsadmin-database/password
{{- end }}
{{- else }}
  valueFrom:
    secretKeyRef:
      name: {{ $login.existingSecret }}
      key: {{ $login.urlKey }}
{{- end }}
{{- end }}

{{/* The mounts that connections to the database need. Arguments: as above. */}}
{{- define "opsadmin-operator.databaseMounts" -}}
{{- $root := index . 0 }}
{{- if not (include "opsadmin-operator.isPostgresql" $root) }}
- name: database
  mountPath: /var/lib/opsadmin
{{- else }}
{{- if and $root.Values.database.postgresql.host (index . 1).existingSecret }}
- name: database
  mountPath: /etc/opsadmin-database
  readOnly: true
{{- end }}
{{- if include "opsadmin-operator.hasDatabaseCa" $root }}
- name: database-ca
  mountPath: /etc/opsadmin-database-ca
  readOnly: true
{{- end }}
{{- end }}
{{- end }}

{{- define "opsadmin-operator.databaseVolumes" -}}
{{- $root := index . 0 }}
{{- $login := index . 1 }}
{{- $pg := $root.Values.database.postgresql }}
{{- if not (include "opsadmin-operator.isPostgresql" $root) }}
- name: database
  persistentVolumeClaim:
    claimName: {{ include "opsadmin-operator.claimName" $root }}
{{- else }}
{{- if and $pg.host $login.existingSecret }}
- name: database
  secret:
    secretName: {{ $login.existingSecret }}
    # The group may read it. fsGroup sets the group.
    defaultMode: 0440
    items:
    - key: {{ $login.passwordKey }}
      path: password
{{- end }}
{{- if $pg.tls.caSecret }}
- name: database-ca
  secret:
    secretName: {{ $pg.tls.caSecret }}
    defaultMode: 0440
    items:
    - key: {{ $pg.tls.caKey }}
      path: {{ $pg.tls.caKey }}
{{- else if $pg.tls.caConfigMap }}
- name: database-ca
  configMap:
    name: {{ $pg.tls.caConfigMap }}
    items:
    - key: {{ $pg.tls.caKey }}
      path: {{ $pg.tls.caKey }}
{{- end }}
{{- end }}
{{- end }}

{{/* Combinations of values that the schema cannot express. Each message says what to change. */}}
{{- define "opsadmin-operator.validate" -}}
{{- $pg := .Values.database.postgresql }}
{{- if include "opsadmin-operator.isPostgresql" . }}
{{- if and (not $pg.existingSecret) (not $pg.host) }}
{{- fail "database.postgresql: set existingSecret to a Secret with the database URL under the key \"url\", or set host, database, user and an existingSecret with the password" }}
{{- end }}
{{- if not (include "opsadmin-operator.keyringSecret" .) }}
{{- fail "keyring: PostgreSQL needs a keyring that all replicas share: set keyring.existingSecret to a Secret with a keyring, or keyring.create to true" }}
{{- end }}
{{- if and $pg.tls.caSecret $pg.tls.caConfigMap }}
{{- fail "database.postgresql.tls: set caSecret or caConfigMap, and not both" }}
{{- end }}
{{- if and (gt (int (include "opsadmin-operator.replicas" .)) 1) (eq .Values.leaderElection.mode "off") }}
{{- fail "leaderElection.mode: off is for one replica: set it to auto or on, or set replicas to 1" }}
{{- end }}
{{- else }}
{{- if gt (int (include "opsadmin-operator.replicas" .)) 1 }}
{{- fail (printf "replicas: %s replicas cannot share an SQLite file: set replicas to 1, or set database.type to postgresql" (include "opsadmin-operator.replicas" .)) }}
{{- end }}
{{- if eq .Values.leaderElection.mode "on" }}
{{- fail "leaderElection.mode: SQLite has one replica and no election: set it to auto, or set database.type to postgresql" }}
{{- end }}
{{- if and .Values.keyring.create (not .Values.keyring.existingSecret) }}
{{- fail "keyring.create: it is for PostgreSQL. With SQLite, the controller itself creates the keyring beside the database on the volume: set keyring.create to false" }}
{{- end }}
{{- end }}
{{- if and .Values.keyring.create .Values.keyring.existingSecret }}
{{- fail "keyring: set existingSecret, or set create to true, and not both" }}
{{- end }}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled }}
{{- fail "podMonitor, serviceMonitor: enable one of them: with both, each metric is counted twice" }}
{{- end }}
{{- if .Values.authServer.enabled }}
{{- include "opsadmin-operator.validateAuthServer" . }}
{{- end }}
{{- end }}

{{/* Where and with which rights pods of the chart run. Arguments: a list of the root, and the values of the pod. */}}
{{- define "opsadmin-operator.placement" -}}
{{- $root := index . 0 }}
{{- $security := $root.Values.podSecurityContext }}
{{- if not (include "opsadmin-operator.isPostgresql" $root) }}
{{- /* Otherwise the kubelet lets the group write the keyring on the volume at each start. */}}
{{- $security = merge (dict) $security (dict "fsGroupChangePolicy" "OnRootMismatch") }}
{{- end -}}
securityContext:
  {{- toYaml $security | nindent 2 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- with index . 1 }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* How pods of a component spread over nodes. Arguments: a list of the root, the value topologySpreadConstraints, the
number of replicas, and the component. */}}
{{- define "opsadmin-operator.spread" -}}
{{- if not (kindIs "invalid" (index . 1)) }}
{{- with index . 1 }}
topologySpreadConstraints:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- else if gt (int (index . 2)) 1 }}
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "opsadmin-operator.selectorLabels" (index . 0) | nindent 6 }}
      app.kubernetes.io/component: {{ index . 3 }}
{{- end }}
{{- end }}
