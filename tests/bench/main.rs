//! The program that `make bench` runs: `bench loopback WORK_FOLDER`, `bench apiserver` and `bench
//! rotation`. `bench loopback` starts `bench floor`.

mod apiserver;
mod floor;
mod loopback;
mod rotation;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["loopback", work] => loopback::run(work).await,
        ["apiserver"] => apiserver::run().await,
        ["rotation"] => rotation::run().await,
        ["floor", address, certificates] => floor::run(address, certificates).await,
        _ => {
            eprintln!("expected loopback WORK_FOLDER, apiserver or rotation; make bench runs all of them");
            std::process::exit(2);
        }
    }
}
