//! Compares the migrations of a database with those that this program knows.

/// The schema of a database, as this program sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The newest migration that this program knows.
    pub known: i64,
    /// The migrations that this program knows and the database lacks, oldest first, by name.
    pub pending: Vec<String>,
    /// The migrations that the database has and this program does not know, oldest first, by name.
    pub newer: Vec<String>,
    /// The newest migration that a program must know to work with the database; `None`: the database does not record
    /// it.
    pub least: Option<i64>,
}

impl Schema {
    /// Returns the migration that this program would have to know to work with the database; `None` if it can work with
    /// it. `newest` is the database's newest migration.
    pub fn needs(&self, newest: i64) -> Option<i64> {
        match self.least {
            _ if self.newer.is_empty() => None,
            Some(least) if self.pending.is_empty() => Some(least).filter(|least| *least > self.known),
            // The database lacks a migration of this program, or does not record which programs can work with it.
            _ => Some(newest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;

    fn schema(known: i64, pending: &[&str], newer: &[&str], least: Option<i64>) -> Schema {
        let names = |names: &[&str]| names.iter().copied().map(String::from).collect();
        Schema { known, pending: names(pending), newer: names(newer), least }
    }

    #[test]
    fn a_program_works_with_a_database_if_it_knows_the_required_migration() {
        assert_eq!(schema(4, &["0004_c"], &[], None).needs(3), None);
        assert_eq!(schema(4, &[], &[], Some(4)).needs(4), None);
        assert_eq!(schema(4, &[], &["0005_d"], Some(4)).needs(5), None);
        assert_eq!(schema(4, &[], &["0005_d", "0006_e"], Some(5)).needs(6), Some(5));
        assert_eq!(schema(4, &[], &["0005_d", "0006_e"], None).needs(6), Some(6));
        assert_eq!(schema(4, &["0003_b"], &["0005_d"], Some(3)).needs(5), Some(5));
    }

    /// Returns the migrations of one kind of database, by file name.
    fn migrations(kind: &str) -> BTreeMap<String, String> {
        let folder = format!("{}/src/database/{kind}/migrations", env!("CARGO_MANIFEST_DIR"));
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
        files.map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap())).collect()
    }

    #[test]
    fn each_migration_states_which_programs_can_work_with_it() {
        let (sqlite, postgres) = (migrations("sqlite"), migrations("postgres"));
        assert!(sqlite.keys().eq(postgres.keys()), "both databases have the same migrations");
        for (name, sql) in sqlite.iter().chain(&postgres) {
            let number: i64 = name[..4].parse().unwrap();
            let needs_this = format!("UPDATE schema_compatibility SET least_version = {number};");
            let says = sql.contains(&needs_this) != sql.contains("-- least_version: as it is\n");
            assert!(
                number <= 4 || says,
                "{name} must have either the line `-- least_version: as it is`, if the program before goes on working \
                 with the tables, or the statement `{needs_this}`"
            );
        }
    }
}
