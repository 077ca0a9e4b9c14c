//! The committed code under src/generated is what the .proto files say. To write it anew after a change:
//! `HOOKBUS_REGENERATE=1 cargo test -p hookbus-proto --test generated`.

use std::{fs, path::Path};

const PROTOS: [&str; 6] = [
    "types",
    "session",
    "ranks",
    "inspect",
    "control",
    "providers",
];

#[test]
fn generated_code_is_what_the_protos_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = PROTOS.map(|name| root.join(format!("hookbus/v1/{name}.proto")));
    let on_disk = fs::read_dir(root.join("hookbus/v1"))
        .expect("proto folder")
        .count();
    assert_eq!(
        on_disk,
        PROTOS.len(),
        "a .proto file is not in this test's list"
    );

    let descriptors = protox::Compiler::new([root])
        .expect("include path")
        .include_imports(true)
        .include_source_info(true)
        .open_files(files)
        .expect("the protos compile")
        .file_descriptor_set();
    let fresh = tempfile::tempdir().expect("temporary directory");
    tonic_prost_build::configure()
        .out_dir(fresh.path())
        .codec_path("crate::codec::Codec")
        .bytes(".hookbus.v1.ScheduleChunk.data")
        .file_descriptor_set_path(fresh.path().join("unused.bin"))
        .compile_fds(descriptors.clone())
        .expect("code generation");
    // Reflection serves the descriptors without comments: a tenth of the size.
    let mut bare = descriptors;
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    fs::write(
        fresh.path().join("hookbus.v1.bin"),
        prost::Message::encode_to_vec(&bare),
    )
    .expect("write");

    let committed = root.join("src/generated");
    for name in ["hookbus.v1.rs", "hookbus.v1.bin"] {
        let new = fs::read(fresh.path().join(name)).expect("generated file");
        if std::env::var_os("HOOKBUS_REGENERATE").is_some() {
            fs::create_dir_all(&committed).expect("folder");
            fs::write(committed.join(name), &new).expect("write generated file");
        }
        let old = fs::read(committed.join(name)).unwrap_or_default();
        assert!(
            old == new,
            "proto/src/generated/{name} is not what the protos say; run: HOOKBUS_REGENERATE=1 cargo test -p hookbus-proto --test generated"
        );
    }
}
