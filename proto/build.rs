//! Compiles the `.proto` files without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = "appsockets/client/v1/client.proto";
    let services = ["appsockets/cluster/v1/cluster.proto", "appsockets/configuration/v1/configuration.proto"];
    for file in services.into_iter().chain([client]) {
        println!("cargo:rerun-if-changed={file}");
    }
    // Ordered maps, so that the same message is always the same bytes.
    prost_build::Config::new().bytes(["."]).btree_map(["."]).compile_fds(protox::compile([client], ["."])?)?;
    tonic_prost_build::configure().bytes(".").compile_fds(protox::compile(services, ["."])?)?;
    Ok(())
}
