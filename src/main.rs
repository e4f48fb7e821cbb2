//! The program `opsadmin`.
fn main() {
    use kube::CustomResourceExt;
    println!("{}", serde_json::to_string_pretty(&opsadmin_operator::api::ApiAccount::crd()).unwrap());
}
