//! Prints the CustomResourceDefinition of the record. `make crd` writes it into the manifests.

fn main() {
    print!("{}", tests::crd_yaml());
}
