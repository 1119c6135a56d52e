//! The configuration as an operator meets it.

use super::*;

fn config(pairs: &[(&str, &str)]) -> Config {
    Config::from_pairs(pairs.iter().copied()).unwrap_or_else(|errors| panic!("{pairs:?}: {errors}"))
}

/// The errors of a configuration, one a line.
fn errors(pairs: &[(&str, &str)]) -> Vec<String> {
    match Config::from_pairs(pairs.iter().copied()) {
        Ok(_) => panic!("{pairs:?} was accepted"),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

/// Sources with a file of `toml`, and the folder that the file lives in.
fn sources(toml: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.toml");
    std::fs::write(&path, toml).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    let flags = flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    (dir, Sources { file: Some(path), environment, flags })
}

#[test]
fn the_defaults_are_a_configuration() {
    let config = config(&[]);
    assert_eq!(config.listen, "0.0.0.0:8080".parse().unwrap());
    assert_eq!(config.storage, StorageBackend::RocksDb);
    assert_eq!(config.drain_timeout, Duration::from_secs(300));
    assert_eq!(config.limits.idle_timeout, Duration::from_secs(300));
    assert_eq!(config.vault.rate.get(), 60);
    assert!(config.vault.session_mode && config.cluster.secret.is_none() && config.unknown_variables.is_empty());
    assert!(config.origins.values().all(|origin| origin.layer == LayerKind::Default));
}

#[test]
fn every_alias_reaches_its_setting() {
    type Shown = fn(&Config) -> String;
    let cases: [(&str, &str, Shown, &str); 26] = [
        ("PORT", "9000", |c| c.listen.to_string(), "0.0.0.0:9000"),
        ("DCP_RELAY_PORT", "9000", |c| c.listen.to_string(), "0.0.0.0:9000"),
        ("HOST", "127.0.0.1", |c| c.listen.to_string(), "127.0.0.1:8080"),
        ("DCP_RELAY_HOST", "::1", |c| c.listen.to_string(), "[::1]:8080"),
        ("LOG_LEVEL", "warn", |c| c.log.level.clone(), "warn"),
        ("RUST_LOG", "info,hyper=off", |c| c.log.level.clone(), "info,hyper=off"),
        ("DCP_RELAY_DEBUG", "true", |c| c.log.level.clone(), "debug"),
        ("DCP_RATE_LIMIT", "7", |c| c.vault.rate.to_string(), "7"),
        ("DCP_RELAY_RATE_LIMIT", "7", |c| c.vault.rate.to_string(), "7"),
        ("DCP_TIMEOUT", "1500", |c| c.limits.idle_timeout.as_millis().to_string(), "1500"),
        ("RELAY_IDLE_TIMEOUT", "2", |c| c.limits.idle_timeout.as_millis().to_string(), "2000"),
        ("RELAY_FEDERATION_DRAIN_TIMEOUT", "0", |c| c.drain_timeout.as_secs().to_string(), "0"),
        ("RELAY_FEDERATION_MTLS_ADDR", "127.0.0.1:1", |c| c.federation.listen.to_string(), "127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317", |c| format!("{:?}", c.trace.endpoint), "Some(http://c:4317/)"),
        ("DUSK_RELAY_PORT", "9000", |c| c.p2p.listen[0].to_string(), "/ip4/0.0.0.0/tcp/9000"),
        ("DUSK_RELAY_EXTERNAL_ADDR", "/dns4/r/tcp/1", |c| c.p2p.external[0].to_string(), "/dns4/r/tcp/1"),
        ("DUSK_MAX_CONNECTIONS", "7", |c| c.p2p.max_connections.to_string(), "7"),
        ("KLIPY_API_KEY", "k", |c| format!("{:?}", c.gif.key.as_ref().map(Secret::expose)), "Some([107])"),
        ("KLIPY_TEST_KEY", "true", |c| c.gif.rate.to_string(), "100"),
        ("DUSK_PEER_RELAYS", "/dns4/r/tcp/1", |c| c.p2p.directory_relays[0].to_string(), "/dns4/r/tcp/1"),
        ("DUSK_TURN_ENABLED", "0", |c| c.turn.enabled.to_string(), "false"),
        ("DUSK_TURN_PUBLIC_HOST", "t.example", |c| format!("{:?}", c.turn.host), "Some(\"t.example\")"),
        ("DUSK_TURN_PUBLIC_IP", "192.0.2.1", |c| format!("{:?}", c.turn.host), "Some(\"192.0.2.1\")"),
        ("DUSK_TURN_UDP_PORT", "7", |c| c.turn.udp_port.to_string(), "7"),
        ("DUSK_TURN_TCP_PORT", "7", |c| c.turn.tcp_port.to_string(), "7"),
        ("DCP_EXPO_PUSH_URL", "http://p/x", |c| format!("{:?}", c.vault.push_url), "Some(http://p/x)"),
    ];
    for (name, value, shown, expected) in cases {
        assert_eq!(shown(&config(&[(name, value)])), expected, "{name}");
    }
    // It needs a host beside it.
    let secret = config(&[("DUSK_TURN_SECRET", "0123456789abcdef"), ("DUSK_TURN_PUBLIC_IP", "192.0.2.1")]).turn.secret;
    assert!(secret.is_some_and(|secret| secret.expose() == b"0123456789abcdef"));
    let aliases = table::SETTINGS.iter().flat_map(|setting| setting.aliases);
    assert_eq!(aliases.count(), cases.len() + 1, "an alias has no case above");
}

#[test]
fn a_debug_switch_that_is_off_changes_nothing() {
    assert_eq!(config(&[("DCP_RELAY_DEBUG", "false"), ("LOG_LEVEL", "warn")]).log.level, "warn");
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let toml = "vault_rate_limit = 1\nmax_connections = 1\nregion = \"north\"\n";
    let environment = [("DCP_RATE_LIMIT", "2"), ("RELAY_MAX_CONNECTIONS", "2")];
    let (_dir, sources) = sources(toml, &environment, &[("--rate-limit", "3")]);
    let config = Config::load(&sources).unwrap();
    assert_eq!((config.vault.rate.get(), config.limits.max_connections), (3, 2));
    assert_eq!(config.cluster.region.as_str(), "north");
    let origin = |name: &str| config.origins[name].to_string();
    assert_eq!(origin("RELAY_VAULT_RATE_LIMIT"), "flag --rate-limit");
    assert_eq!(origin("RELAY_MAX_CONNECTIONS"), "environment RELAY_MAX_CONNECTIONS");
    assert_eq!(origin("RELAY_REGION"), "file region");
    assert_eq!(origin("RELAY_CLUSTER_ID"), "default RELAY_CLUSTER_ID");
}

#[test]
fn a_higher_layer_can_change_the_port_alone() {
    let (_dir, sources) = sources("listen_addr = \"127.0.0.1:1\"", &[("PORT", "2")], &[("--port", "3")]);
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:3");
    assert_eq!(config.origins["RELAY_LISTEN_ADDR"].to_string(), "flag --port");
}

#[test]
fn a_file_writes_lists_numbers_and_switches_in_toml() {
    let toml = "trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\ntrace_sample_ratio = 1\nvault_session_mode = false\n";
    let (_dir, sources) = sources(toml, &[], &[]);
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.trusted_proxies.len(), 2);
    assert!(!config.vault.session_mode);
}

#[test]
fn a_file_with_unknown_keys_or_wrong_types_is_refused() {
    let (_dir, sources) = sources("max_conections = 1\nregion = [\"a\"]\n[limits]\n", &[], &[]);
    let shown = Config::load(&sources).unwrap_err().to_string();
    assert_eq!(shown.lines().count(), 3, "{shown}");
    for part in ["max_conections", "limits", "RELAY_REGION"] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn a_broken_file_is_refused_without_quoting_it() {
    let (_dir, mut sources) = sources("cluster_secret = \"hunter2-hunter2-hunter2", &[], &[]);
    let shown = Config::load(&sources).unwrap_err().to_string();
    assert!(shown.contains("line 1") && !shown.contains("hunter2"), "{shown}");
    sources.file = Some("/nonexistent/relay.toml".into());
    assert!(Config::load(&sources).unwrap_err().to_string().contains("/nonexistent/relay.toml"));
}

#[test]
fn the_file_is_named_by_its_flag_or_else_by_the_environment() {
    let environment: BTreeMap<_, _> = [(FILE_VARIABLE.to_owned(), "/from/env".into())].into();
    let file = |flag: Option<&str>| Sources::new(flag.map(PathBuf::from), environment.clone(), BTreeMap::new()).file;
    assert_eq!(file(None), Some("/from/env".into()));
    assert_eq!(file(Some("/from/flag")), Some("/from/flag".into()));
}

#[test]
fn all_errors_come_at_once() {
    let shown = errors(&[
        ("RELAY_MAX_CONNECTIONS", "0"),
        ("DCP_TIMEOUT", "soon"),
        ("PORT", "99999"),
        ("RELAY_STORAGE_BACKEND", "sqlite"),
        ("RELAY_LOG_LEVEL", "loud"),
        ("RELAY_SEND_QUEUE_BYTES", "4096"),
        ("RELAY_GRPC_ADDR", "10.0.0.1:7400"),
    ]);
    let parts = [
        "RELAY_LISTEN_ADDR must be a port from 0 to 65535: environment PORT gives \"99999\"",
        "rocksdb replaces sqlite",
        "RELAY_LOG_LEVEL must be error, warn, info",
        "RELAY_MAX_CONNECTIONS must be 1 to 10000000: environment RELAY_MAX_CONNECTIONS gives \"0\"",
        "RELAY_IDLE_TIMEOUT_MS must be 1000 to 86400000 milliseconds: environment DCP_TIMEOUT gives \"soon\"",
        "RELAY_SEND_QUEUE_BYTES (4096) must be at least RELAY_MAX_MESSAGE_SIZE",
        "RELAY_GRPC_ADDR must be a loopback address such as 127.0.0.1, or set RELAY_CLUSTER_SECRET",
    ];
    assert_eq!(shown.len(), parts.len(), "{shown:#?}");
    for (line, part) in shown.iter().zip(parts) {
        assert!(line.contains(part), "{line} has no {part}");
    }
}

#[test]
fn zero_and_garbage_are_errors_for_every_number() {
    for setting in table::SETTINGS {
        let Kind::Integer { min, max, .. } = setting.kind else { continue };
        let beyond = (max + 1).to_string();
        for bad in ["-1", "many", "1.5", &beyond].into_iter().chain((min > 0).then_some("0")) {
            assert!(errors(&[(setting.name, bad)])[0].starts_with(setting.name), "{}={bad}", setting.name);
        }
    }
}

#[test]
fn empty_is_unset_and_white_space_does_not_count() {
    let config = config(&[("RELAY_REGION", ""), ("RELAY_VAULT_PUSH_URL", "  "), ("RELAY_MAX_CONNECTIONS", " 5\n")]);
    assert_eq!(config.cluster.region.as_str(), "default");
    assert_eq!(config.vault.push_url, None);
    assert_eq!(config.limits.max_connections, 5);
}

#[test]
fn names_of_one_setting_must_agree_in_one_layer() {
    let cases = [
        [("RELAY_VAULT_RATE_LIMIT", "1"), ("DCP_RATE_LIMIT", "2")],
        [("RELAY_LOG_LEVEL", "info"), ("DCP_RELAY_DEBUG", "true")],
        [("RELAY_LISTEN_ADDR", "0.0.0.0:1"), ("PORT", "2")],
        [("RELAY_LISTEN_ADDR", "0.0.0.0:1"), ("HOST", "::1")],
    ];
    for case in cases {
        let shown = errors(&case);
        assert!(shown.len() == 1 && case.iter().all(|(name, _)| shown[0].contains(name)), "{shown:?}");
    }
    assert_eq!(config(&[("RELAY_VAULT_RATE_LIMIT", "2"), ("DCP_RATE_LIMIT", "2")]).vault.rate.get(), 2);
}

#[test]
fn strangers_are_kept_out_of_the_cluster_by_a_secret() {
    let secret = ("RELAY_CLUSTER_SECRET", "0123456789abcdef");
    assert!(errors(&[("RELAY_GOSSIP_ADDR", "10.0.0.1:1")])[0].contains("RELAY_CLUSTER_SECRET"));
    let open = config(&[("RELAY_GOSSIP_ADDR", "10.0.0.1:1"), secret]);
    assert_eq!(open.cluster.secret.unwrap().expose(), b"0123456789abcdef");
    let unspecified = ("RELAY_GRPC_ADDR", "0.0.0.0:7400");
    assert!(errors(&[unspecified, secret])[0].contains("RELAY_ADVERTISE_HOST"));
    let named = config(&[unspecified, secret, ("RELAY_ADVERTISE_HOST", "relay-1.internal")]);
    assert_eq!(named.cluster.advertise_host.as_deref(), Some("relay-1.internal"));
}

#[test]
fn a_refused_value_is_not_called_missing_as_well() {
    let shown = errors(&[("RELAY_CLUSTER_SECRET", "short"), ("RELAY_GRPC_ADDR", "10.0.0.1:1")]);
    assert_eq!(shown.len(), 1, "{shown:?}");
}

#[test]
fn the_secret_may_come_from_a_file_but_not_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    let file = ("RELAY_CLUSTER_SECRET_FILE", path.to_str().unwrap());
    assert!(errors(&[file])[0].contains(file.1));
    std::fs::write(&path, "short\n").unwrap();
    assert!(errors(&[file])[0].contains("at least 16 bytes"));
    std::fs::write(&path, "0123456789abcdef\n").unwrap();
    assert_eq!(config(&[file]).cluster.secret.unwrap().expose(), b"0123456789abcdef");
    let shown = errors(&[file, ("RELAY_CLUSTER_SECRET", "0123456789abcdef")]);
    assert!(shown[0].contains("not both"), "{shown:?}");
}

#[test]
fn what_operators_see_and_keep_is_read() {
    use base64::Engine;

    let all = config(&[]);
    assert!(all.metrics.listen.is_none() && all.metrics.token.is_none() && all.metrics.public);
    assert!(all.noise.key.is_none() && !all.noise.required);
    let key = crate::security::noise::StaticKey::from_private([7; 32]).unwrap();
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key.to_bytes());
    let all = config(&[
        ("RELAY_METRICS_ADDR", "localhost:8081"),
        ("RELAY_METRICS_TOKEN", "s3cret"),
        ("RELAY_PUBLIC_METRICS", "false"),
        ("RELAY_NOISE_STATIC_KEY", &text),
        ("RELAY_REQUIRE_NOISE_ENCRYPTION", "1"),
        ("RELAY_TLS_VERIFIED", "true"),
    ]);
    assert_eq!(all.metrics.listen, "127.0.0.1:8081".parse().ok());
    assert!(all.metrics.token.is_some_and(|token| token.expose() == b"s3cret") && !all.metrics.public);
    assert_eq!(all.noise, NoiseConfig { key: Some(key), required: true });
    assert!(all.unknown_variables.is_empty());
}

#[test]
fn a_malformed_key_or_token_is_refused_and_not_shown() {
    for name in ["RELAY_NOISE_STATIC_KEY", "RELAY_METRICS_TOKEN"] {
        let shown = errors(&[(name, "hunter2 hunter2")]);
        assert!(shown.len() == 1 && shown[0].starts_with(name) && !shown[0].contains("hunter2"), "{shown:?}");
    }
    let halves = "A".repeat(86);
    assert!(errors(&[("RELAY_NOISE_STATIC_KEY", &halves)])[0].contains("its public key"));
}

#[test]
fn a_backend_that_is_not_there_is_refused_with_those_that_are() {
    assert!(errors(&[("RELAY_STORAGE_BACKEND", "sqlite")])[0].contains("rocksdb replaces sqlite"));
    let unknown = errors(&[("RELAY_STORAGE_BACKEND", "postgres")]);
    assert!(unknown[0].contains("must be rocksdb or memory"), "{unknown:?}");
}

#[test]
fn authorities_of_the_operator_are_trusted_besides_the_public_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("authorities.pem");
    let file = ("RELAY_OUTBOUND_CA_FILE", path.to_str().unwrap());
    let public = config(&[]).outbound_roots.len();
    assert!(public > 50, "{public}");

    let authority = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem();
    std::fs::write(&path, authority("a.example") + "and another\n" + &authority("b.example")).unwrap();
    assert_eq!(config(&[file]).outbound_roots.len(), public + 2);

    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (text, reason) in [
        ("no PEM at all".to_owned(), "holds no certificate in PEM"),
        (authority("a.example") + no_certificate, "certificate 2 cannot be used"),
        (authority("a.example").replace("-----END", "-----"), "certificate 1 cannot be used"),
        ("x".repeat(1024 * 1024 + 1), "must be at most 1048576 bytes"),
    ] {
        std::fs::write(&path, text).unwrap();
        let shown = errors(&[file, ("RELAY_MAX_CONNECTIONS", "0")]);
        assert!(shown.len() == 2 && shown[0].starts_with("RELAY_MAX_CONNECTIONS"), "{shown:?}");
        assert!(shown[1].starts_with(file.0) && shown[1].contains(file.1) && shown[1].contains(reason), "{shown:?}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(errors(&[file])[0].contains(file.1));
}

#[test]
fn a_secret_is_never_printed() {
    let long = "hunter2-hunter2-hunter2";
    let sources =
        Sources { environment: [("RELAY_CLUSTER_SECRET".to_owned(), long.into())].into(), ..Sources::default() };
    assert!(!format!("{:?}", Config::load(&sources)).contains("hunter2"));
    assert!(!format!("{sources:?}").contains("hunter2"));
    let refused = Config::from_pairs([("RELAY_CLUSTER_SECRET", "hunter2")]).unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    assert!(refused.to_string().contains("RELAY_CLUSTER_SECRET must be at least 16 bytes"));
}

#[test]
fn unknown_relay_variables_are_told() {
    let config = config(&[("RELAY_PROT", "1"), ("PATH", "/bin"), (FILE_VARIABLE, "/ignored"), ("RELAY_REGION", "x")]);
    assert_eq!(config.unknown_variables, ["RELAY_PROT"]);
}

#[test]
fn ports_may_be_left_to_the_system() {
    let free = [("PORT", "0"), ("RELAY_GRPC_ADDR", "127.0.0.1:0"), ("RELAY_GOSSIP_ADDR", "127.0.0.1:0")];
    let config = config(&free);
    assert_eq!([config.listen.port(), config.cluster.grpc.port(), config.cluster.gossip.port()], [0, 0, 0]);
}
