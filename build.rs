//! Builds again when a migration is added: `sqlx::migrate!` notices a changed file by itself, a new one it does not.

fn main() {
    println!("cargo::rerun-if-changed=src/database/sqlite/migrations");
    println!("cargo::rerun-if-changed=src/database/postgres/migrations");
}
