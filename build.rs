//! Compiles `proto/` with a compiler that is itself a crate: no system protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/waystation/cluster/v1/cluster.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        .boxed(".waystation.cluster.v1.Frame.body.deliver")
        .compile_fds(files)?;
    Ok(())
}
