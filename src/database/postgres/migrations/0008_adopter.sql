-- Who may take over an account that nobody declares: `CLUSTER/NAMESPACE` or `CLUSTER/NAMESPACE/NAME`. Without it, a retained
-- account is for the namespace that it had, and an imported one for nobody yet.
-- least_version: as it is
ALTER TABLE accounts ADD COLUMN adopter TEXT;
