{{/* Names and decisions of the auth server. */}}

{{- define "opsadmin-operator.authServerName" -}}
{{- printf "%s-auth-server" (include "opsadmin-operator.fullname" .) }}
{{- end }}

{{/* The name of the Service of the internal listener. It has at most 63 characters. */}}
{{- define "opsadmin-operator.authServerInternalName" -}}
{{- printf "%s-auth-server-internal" (include "opsadmin-operator.fullname" . | trunc 42 | trimSuffix "-") }}
{{- end }}

{{- define "opsadmin-operator.authServerAccountName" -}}
{{- $account := .Values.authServer.serviceAccount }}
{{- if $account.create }}
{{- default (include "opsadmin-operator.authServerName" .) $account.name }}
{{- else }}
{{- required "authServer.serviceAccount.name: name the existing ServiceAccount, or set authServer.serviceAccount.create to true" $account.name }}
{{- end }}
{{- end }}

{{- define "opsadmin-operator.authServerReplicas" -}}
{{- if kindIs "invalid" .Values.authServer.replicas }}
{{- if include "opsadmin-operator.isPostgresql" . }}2{{ else }}1{{ end }}
{{- else }}
{{- int .Values.authServer.replicas }}
{{- end }}
{{- end }}

{{/* The table of paths. */}}
{{- define "opsadmin-operator.paths" -}}
{{- if kindIs "invalid" .Values.authServer.paths }}
{{- .Files.Get "files/paths.yaml" | trim }}
{{- else }}
{{- toYaml .Values.authServer.paths }}
{{- end }}
{{- end }}

{{/* Combinations of values that the schema cannot express. Each message says what to change. */}}
{{- define "opsadmin-operator.validateAuthServer" -}}
{{- $auth := .Values.authServer }}
{{- $pg := .Values.database.postgresql }}
{{- if not $auth.issuer }}
{{- fail "authServer.issuer: set it to the URL at which partners reach the auth server, such as https://auth.example.com; partners make their assertions for it" }}
{{- end }}
{{- if not $auth.internalNetworks }}
{{- fail "authServer.internalNetworks: list the networks of your proxies and of Prometheus, such as the cluster's network of pods [10.244.0.0/16]; the internal listener refuses all others" }}
{{- end }}
{{- if and $auth.tls.internal (not $auth.tls.existingSecret) }}
{{- fail "authServer.tls.internal: it needs a certificate: set authServer.tls.existingSecret, or set internal to false" }}
{{- end }}
{{- if and .Values.networkPolicy.enabled (not $auth.networkPolicy.internalFrom) }}
{{- fail "authServer.networkPolicy.internalFrom: choose the pods of your proxies: who reaches the internal listener can ask about tokens" }}
{{- end }}
{{- if include "opsadmin-operator.isPostgresql" . }}
{{- if and (not $auth.database.existingSecret) (not $pg.host) }}
{{- fail "authServer.database.existingSecret: set it to a Secret with the URL of the auth server's own role under the key \"url\"; docs/database.md has the rights of this role" }}
{{- end }}
{{- $sameRole := and (eq $auth.database.existingSecret $pg.existingSecret) (eq $auth.database.urlKey $pg.urlKey) }}
{{- if ternary (eq $auth.database.user $pg.user) $sameRole (ne $pg.host "") }}
{{- fail "authServer.database: the auth server would have all rights of the controller: give it a role of its own, which docs/database.md describes" }}
{{- end }}
{{- else }}
{{- if gt (int (include "opsadmin-operator.authServerReplicas" .)) 1 }}
{{- fail (printf "authServer.replicas: %s replicas cannot share an SQLite file: set authServer.replicas to 1, or set database.type to postgresql" (include "opsadmin-operator.authServerReplicas" .)) }}
{{- end }}
{{- if has "ReadWriteOncePod" .Values.database.sqlite.accessModes }}
{{- fail "database.sqlite.accessModes: ReadWriteOncePod keeps the auth server from the SQLite file of the controller: use ReadWriteOnce, or set database.type to postgresql" }}
{{- end }}
{{- end }}
{{- end }}
