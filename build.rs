//! Compiles `proto/` with a compiler that is itself a crate: no system protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    // First, because it writes an empty file for what it only borrows.
    let federation = protox::compile(["proto/waystation/federation/v1/federation.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        .extern_path(".waystation.cluster.v1", "crate::cluster::proto")
        .compile_fds(federation)?;
    let cluster = protox::compile(["proto/waystation/cluster/v1/cluster.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        .boxed(".waystation.cluster.v1.Frame.body.deliver")
        .compile_fds(cluster)?;
    Ok(())
}
