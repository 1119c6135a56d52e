//! Compiles `proto/` with a compiler that is itself a crate: no system protoc is needed.

use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

const CLUSTER: &str = "waystation/cluster/v1/cluster.proto";
const FEDERATION: &str = "waystation/federation/v1/federation.proto";
const ADMIN: &str = "waystation/admin/v1/admin.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // First, because it writes an empty file for what it only borrows.
    tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::federation::inflow::PeerCodec")
        .bytes(".")
        .extern_path(".waystation.cluster.v1", "crate::cluster::proto")
        .compile_fds(protox::compile([FEDERATION], ["proto"])?)?;
    tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::cluster::links::counted::NodeCodec")
        .bytes(".")
        .boxed(".waystation.cluster.v1.Frame.body.deliver")
        .compile_fds(protox::compile([CLUSTER], ["proto"])?)?;

    let mut admin = protox::compile([ADMIN], ["proto"])?;
    let as_name = |kind: &str| format!("#[serde(serialize_with = \"super::names::{kind}\")]");
    tonic_prost_build::configure()
        .type_attribute(".waystation.admin.v1", "#[derive(serde::Serialize)]")
        .field_attribute(".waystation.admin.v1.NodeStatusResponse.phase", as_name("phase"))
        .field_attribute(".waystation.admin.v1.DrainStatusResponse.phase", as_name("phase"))
        .field_attribute(".waystation.admin.v1.MemberEvent.change", as_name("change"))
        .field_attribute(".waystation.admin.v1.Peer.state", as_name("peer_state"))
        .field_attribute(".waystation.admin.v1.PeerEvent.change", as_name("peer_change"))
        .field_attribute(".waystation.admin.v1.Session.service", as_name("service"))
        .field_attribute(".waystation.admin.v1.ListSessionsRequest.service", as_name("service"))
        .compile_fds(admin.clone())?;
    // What reflection tells callers: the shapes, without the comments.
    admin.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(out.join("admin.bin"), admin.encode_to_vec())?;

    // What tests/it/protos.rs compares with the shapes that were promised.
    let mut all = protox::compile([CLUSTER, ADMIN, FEDERATION], ["proto"])?;
    all.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(out.join("protos.bin"), all.encode_to_vec())?;
    Ok(())
}
