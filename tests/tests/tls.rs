//! Over TCP with the real daemon and the real `hookbus`: who may do what by which token, and what each failure says.
//! Certificates and keys are made here and die with the test.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use hookbus_client::access::{Access, AccessFiles};
use hookbus_client::address::Address;
use hookbus_client::inspect::Inspector;
use hookbus_client::{Action, Given, Options, Session, Signal, attach};
use hookbus_e2e::{Raw, Sandbox, binary};
use hookbus_proto::v1::RunsRequest;
use hookbus_proto::v1::client_frame::Frame;
use hookbus_proto::v1::inspect_client::InspectClient;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::Endpoint;

const PATIENCE: Duration = Duration::from_secs(60);
const TRAINER: &str = "trainer-0123456789abcdef";
const VIEWER: &str = "viewer-0123456789abcdef";
const OPERATOR: &str = "operator-0123456789abcdef";
const WRONG: &str = "wrong-0123456789abcdef";

/// Everything that this process has logged, at the most verbose level.
fn traces() -> &'static Arc<Mutex<Vec<u8>>> {
    static TRACES: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    TRACES.get_or_init(|| {
        let traces = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&traces);
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(move || Writer(Arc::clone(&writer)))
            .init();
        traces
    })
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("whole").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An authority, and what it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signed"))
    }

    /// Certificate and key, PEM.
    fn sign(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.0).expect("signed");
        (signed.pem(), key.serialize_pem())
    }
}

/// Files of one test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        for (name, token) in [
            ("trainer", TRAINER),
            ("viewer", VIEWER),
            ("operator", OPERATOR),
            ("wrong", WRONG),
        ] {
            files.put(name, &format!("# of this test\n{token}\n"));
        }
        files
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn auth(&self) -> String {
        let lines = ["trainer", "viewer", "operator"]
            .map(|role| format!("{role}_token_file = \"{}\"\n", self.path(role).display()));
        format!("[auth]\n{}", lines.concat())
    }

    /// The files that a client shows.
    fn shown(&self, token: Option<&str>, ca: Option<&str>) -> AccessFiles {
        AccessFiles {
            token: token.map(|name| self.path(name)),
            ca: ca.map(|name| self.path(name)),
            ..AccessFiles::default()
        }
    }

    /// `hookbus` with these files.
    fn hookbus(
        &self,
        address: &str,
        token: Option<&str>,
        ca: Option<&str>,
        words: &[&str],
    ) -> Output {
        let mut command = Command::new(binary("hookbus"));
        command.args(["--address", address]);
        for (flag, name) in [("--token-file", token), ("--ca-file", ca)] {
            if let Some(name) = name {
                command.arg(flag).arg(self.path(name));
            }
        }
        command.args(words).output().expect("hookbus runs")
    }
}

/// The one line that a failure has.
fn line(output: &Output, words: &[&str]) -> String {
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(text.lines().count(), 1, "{text}");
    for word in words {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    for token in [TRAINER, VIEWER, OPERATOR, WRONG] {
        assert!(!text.contains(token), "{text}");
    }
    text
}

/// A trainer on a thread of its own, that trains until it is told to stop.
fn train(
    run: &str,
    address: &str,
    files: &AccessFiles,
) -> (Session, std::thread::JoinHandle<String>) {
    let mut options = Options::showing(run, Some(address), files).expect("valid");
    options.timeout = PATIENCE;
    let session = attach(options);
    assert_eq!(session.warnings(), Vec::<String>::new());
    let trainer = session.clone();
    let training = std::thread::spawn(move || {
        let point = trainer.point("before_train_iter").expect("a point");
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match trainer.emit(point, &Given::NOTHING, &[], &[]) {
                Signal::Prepare => {
                    assert!(trainer.prepare(PATIENCE), "the daemon takes the facts");
                    continue;
                }
                Signal::Pending => {
                    for action in trainer.take_actions(point) {
                        if let Action::Stop { by, .. } = action {
                            trainer.close("stopped", false);
                            return by;
                        }
                    }
                }
                _ => {}
            }
            trainer.flush(PATIENCE);
        }
        panic!("nobody stopped it");
    });
    (session, training)
}

fn warning(run: &str, address: &str, files: &AccessFiles) -> String {
    let mut options = Options::showing(run, Some(address), files).expect("valid");
    options.timeout = PATIENCE;
    let session = attach(options);
    let mut warnings = session.warnings();
    session.close("no daemon", true);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    warnings.remove(0)
}

fn page(address: &str, path: &str, token: Option<&str>) -> String {
    let host = address.strip_prefix("http://").expect("plain");
    let mut stream = TcpStream::connect(host).expect("it listens");
    let authorization = token.map_or(String::new(), |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Connection: close\r\n\r\n"
    )
    .expect("it reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("it answers");
    reply
}

#[test]
fn over_loopback_without_tls_a_token_gives_its_role() {
    let files = Files::new();
    let sandbox = Sandbox::with_config(&format!(
        "[listen]\ntcp = \"127.0.0.1:0\"\n{}[log]\nlevel = \"trace\"\n",
        files.auth()
    ));
    let tcp = sandbox.tcp();
    assert!(tcp.starts_with("http://127.0.0.1:"), "{tcp}");
    let (_session, training) = train("tokens", &tcp, &files.shown(Some("trainer"), None));

    for (token, words) in [
        (
            Some("trainer"),
            "needs the role viewer, and this token is for another role",
        ),
        (None, "needs the role viewer, and no token was shown"),
        (Some("wrong"), "the token is wrong"),
    ] {
        let looked = files.hookbus(&tcp, token, None, &["runs"]);
        line(&looked, &[&tcp, words]);
    }
    for token in ["viewer", "operator"] {
        let looked = files.hookbus(&tcp, Some(token), None, &["runs"]);
        assert!(looked.status.success(), "{looked:?}");
        assert!(String::from_utf8_lossy(&looked.stdout).contains("tokens"));
    }
    let acted = files.hookbus(&tcp, Some("viewer"), None, &["send", "tokens", "stop"]);
    line(
        &acted,
        &[&tcp, "needs the role operator", "auth.operator_token_file"],
    );

    for (token, words) in [
        (
            None,
            "needs the role trainer, and no token was shown: show a token of auth.trainer_token_file",
        ),
        (Some("viewer"), "this token is for another role"),
        (Some("wrong"), "the token is wrong"),
    ] {
        let warning = warning("refused", &tcp, &files.shown(token, None));
        assert!(
            warning.contains(words) && warning.contains(&tcp),
            "{warning}"
        );
        assert!(warning.contains("The training goes on."), "{warning}");
    }

    assert!(page(&tcp, "/healthz", None).starts_with("HTTP/1.1 200"));
    assert!(page(&tcp, "/metrics", None).starts_with("HTTP/1.1 403"));
    let wrong = page(&tcp, "/metrics", Some(WRONG));
    assert!(
        wrong.starts_with("HTTP/1.1 401") && !wrong.contains(WRONG),
        "{wrong}"
    );
    assert!(page(&tcp, "/metrics", Some(VIEWER)).starts_with("HTTP/1.1 200"));

    let stopped = files.hookbus(&tcp, Some("operator"), None, &["send", "tokens", "stop"]);
    assert!(stopped.status.success(), "{stopped:?}");
    let by = training.join().expect("it was stopped");
    assert!(by.contains("operator") && by.contains("127.0.0.1:"), "{by}");
    let log = sandbox.log();
    assert!(log.contains("an operator's order") && log.contains("TRACE"));
    for token in [TRAINER, VIEWER, OPERATOR, WRONG] {
        assert!(!log.contains(token), "the daemon's log has a token");
    }
}

#[tokio::test]
async fn a_client_that_does_not_mark_its_token_as_secret_finds_it_in_no_log_of_the_daemon() {
    let files = Files::new();
    let sandbox = Sandbox::with_config(&format!(
        "[listen]\ntcp = \"127.0.0.1:0\"\n{}[log]\nlevel = \"trace\"\n",
        files.auth()
    ));
    let endpoint = Endpoint::from_shared(sandbox.tcp()).expect("a URI");
    let mut client = InspectClient::new(endpoint.connect().await.expect("it listens"));
    for (token, code) in [(VIEWER, None), (WRONG, Some(Code::Unauthenticated))] {
        let mut request = tonic::Request::new(RunsRequest::default());
        let value = format!("Bearer {token}").parse().expect("ASCII");
        request.metadata_mut().insert("authorization", value);
        let reply = client.runs(request).await;
        assert_eq!(reply.err().map(|status| status.code()), code);
    }
    let log = sandbox.log();
    assert!(log.contains("TRACE"));
    assert!(!log.contains(VIEWER) && !log.contains(WRONG), "{log}");
}

#[tokio::test]
async fn without_a_token_a_training_over_tcp_is_refused_as_not_permitted() {
    let sandbox = Sandbox::with_config("[listen]\ntcp = \"127.0.0.1:0\"\n");
    let address = Address::parse(&sandbox.tcp()).expect("an address");
    let hello = Frame::Hello(Raw::hello("none", 0, 1, "s"));
    let Err(status) = Raw::open(&address, vec![hello]).await else {
        panic!("it was let in");
    };
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    let mut inspector = Inspector::connect(&address, PATIENCE)
        .await
        .expect("it listens");
    assert_eq!(inspector.runs().await.expect("one may look"), []);
}

#[tokio::test]
async fn a_run_of_a_user_can_be_joined_over_tcp_with_a_trainers_token() {
    let files = Files::new();
    let sandbox = Sandbox::with_config(&format!(
        "[listen]\ntcp = \"127.0.0.1:0\"\n{}",
        files.auth()
    ));
    let (_first, _) = Raw::attach(&sandbox.address(), Raw::hello("joined", 0, 2, "a")).await;
    let address = Address::parse(&sandbox.tcp()).expect("an address");
    let access = Access::load(&address, &files.shown(Some("trainer"), None)).expect("valid");
    let hello = Frame::Hello(Raw::hello("joined", 1, 2, "b"));
    let mut second = Raw::open_with(&address, &access, vec![hello])
        .await
        .expect("it is let in");
    let first = second.next().await.expect("a frame");
    assert!(
        matches!(
            first,
            Some(hookbus_proto::v1::server_frame::Frame::Welcome(_))
        ),
        "{first:?}"
    );
}

#[test]
fn over_tls_each_role_does_its_own_and_no_log_has_a_token() {
    let files = Files::new();
    let traces = traces();
    let authority = Authority::new("ours");
    files.put("ca.pem", &authority.0.pem());
    files.put("other.pem", &Authority::new("theirs").0.pem());
    files.put("renewed.pem", &Authority::new("ours").0.pem());
    let (cert, key) = authority.sign(&["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    let (cert, key) = (files.put("cert.pem", &cert), files.put("key.pem", &key));
    let sandbox = Sandbox::with_config(&format!(
        "[listen]\ntcp = \"127.0.0.1:0\"\ntls_cert = \"{}\"\ntls_key = \"{}\"\n{}[log]\nlevel = \"trace\"\n",
        cert.display(),
        key.display(),
        files.auth()
    ));
    let tls = sandbox.tcp();
    assert!(tls.starts_with("https://127.0.0.1:"), "{tls}");
    // It says nothing for the whole test, and holds up nobody.
    let host = tls.strip_prefix("https://").expect("TLS");
    let _dawdler = TcpStream::connect(host).expect("it listens");
    let ca = Some("ca.pem");
    let (_session, training) = train("tls", &tls, &files.shown(Some("trainer"), ca));

    let looked = files.hookbus(&tls, Some("viewer"), ca, &["show", "tls"]);
    assert!(looked.status.success(), "{looked:?}");
    let acted = files.hookbus(&tls, Some("viewer"), ca, &["send", "tls", "stop"]);
    line(
        &acted,
        &[
            &tls,
            "needs the role operator, and this token is for another role",
        ],
    );
    line(
        &files.hookbus(&tls, Some("wrong"), ca, &["runs"]),
        &[&tls, "the token is wrong"],
    );
    line(
        &files.hookbus(&tls, None, ca, &["runs"]),
        &[&tls, "no token was shown"],
    );

    let believed = "from an authority that is not believed here";
    for ca in ["other.pem", "renewed.pem"] {
        line(
            &files.hookbus(&tls, Some("viewer"), Some(ca), &["runs"]),
            &[&tls, believed, "HOOKBUS_CA_FILE"],
        );
    }
    let warning_text = warning(
        "tls",
        &tls,
        &files.shown(Some("trainer"), Some("other.pem")),
    );
    assert!(
        warning_text.contains(believed) && warning_text.contains(&tls),
        "{warning_text}"
    );
    let named = tls.replace("127.0.0.1", "localhost");
    line(
        &files.hookbus(&named, Some("viewer"), ca, &["runs"]),
        &[
            &named,
            "write the address with a name that the certificate has",
        ],
    );
    let plain = tls.replace("https://", "http://");
    line(
        &files.hookbus(&plain, Some("viewer"), None, &["runs"]),
        &[&plain, "it speaks TLS; write https://"],
    );
    let warning_text = warning("tls", &plain, &files.shown(Some("trainer"), None));
    assert!(
        warning_text.contains("it speaks TLS; write https://") && warning_text.contains(&plain),
        "{warning_text}"
    );
    assert!(
        sandbox
            .log()
            .lines()
            .any(|line| line.contains("DEBUG") && line.contains("the client speaks plain text")),
        "the daemon's log says it in a line of its own"
    );

    let stopped = files.hookbus(
        &tls,
        Some("operator"),
        ca,
        &["send", "tls", "stop", "--reason", "enough"],
    );
    assert!(stopped.status.success(), "{stopped:?}");
    training.join().expect("it was stopped");

    let daemon = sandbox.log();
    let client = String::from_utf8_lossy(&traces.lock().expect("whole")).into_owned();
    assert!(
        daemon.contains("TRACE") && client.contains("TRACE"),
        "both were as verbose as they can"
    );
    for token in [TRAINER, VIEWER, OPERATOR, WRONG] {
        assert!(!daemon.contains(token), "the daemon's log has a token");
        assert!(!client.contains(token), "the client's log has a token");
    }
}

#[test]
fn a_clear_daemon_asked_over_tls_says_so() {
    let files = Files::new();
    files.put("ca.pem", &Authority::new("ours").0.pem());
    let sandbox = Sandbox::with_config("[listen]\ntcp = \"127.0.0.1:0\"\n");
    let tls = sandbox.tcp().replace("http://", "https://");
    line(
        &files.hookbus(&tls, None, Some("ca.pem"), &["runs"]),
        &[
            &tls,
            "it does not speak TLS; write http:// if that is meant",
        ],
    );
}

#[tokio::test]
async fn a_clients_certificate_gives_the_configured_role() {
    let files = Files::new();
    let authority = Authority::new("ours");
    files.put("ca.pem", &authority.0.pem());
    let (cert, key) = authority.sign(&["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    let (cert, key) = (files.put("cert.pem", &cert), files.put("key.pem", &key));
    let sandbox = Sandbox::with_config(&format!(
        "[listen]\ntcp = \"127.0.0.1:0\"\ntls_cert = \"{}\"\ntls_key = \"{}\"\ntls_client_ca = \"{}\"\ntls_client_role = \"trainer\"\n{}",
        cert.display(),
        key.display(),
        files.path("ca.pem").display(),
        files.auth()
    ));
    let address = Address::parse(&sandbox.tcp()).expect("an address");
    let signed = |name: &str, by: &Authority| {
        let (cert, key) = by.sign(&["trainer"], ExtendedKeyUsagePurpose::ClientAuth);
        AccessFiles {
            client_cert: Some(files.put(&format!("{name}.pem"), &cert)),
            client_key: Some(files.put(&format!("{name}.key"), &key)),
            ..files.shown(None, Some("ca.pem"))
        }
    };
    let hello = || vec![Frame::Hello(Raw::hello("certified", 0, 1, "s"))];
    let load = |shown: &AccessFiles| Access::load(&address, shown).expect("valid");

    let own = load(&signed("own", &authority));
    let mut trainer = Raw::open_with(&address, &own, hello())
        .await
        .expect("let in");
    assert!(trainer.next().await.expect("a frame").is_some());
    let mut looking = Inspector::connect_with(&address, &own, PATIENCE)
        .await
        .expect("it listens");
    let refused = looking.runs().await.expect_err("a trainer's").to_string();
    assert!(
        refused.contains("this certificate is for another role"),
        "{refused}"
    );

    let none = load(&files.shown(None, Some("ca.pem")));
    let mut looking = Inspector::connect_with(&address, &none, PATIENCE)
        .await
        .expect("it listens");
    let refused = looking
        .runs()
        .await
        .expect_err("nothing was shown")
        .to_string();
    assert!(refused.contains("no token was shown"), "{refused}");

    let foreign = load(&signed("foreign", &Authority::new("theirs")));
    let refused = match Inspector::connect_with(&address, &foreign, PATIENCE).await {
        Ok(mut looking) => looking.runs().await.expect_err("a stranger's").to_string(),
        Err(error) => error.to_string(),
    };
    assert!(
        refused.contains(&sandbox.tcp()) && !refused.contains('\n'),
        "{refused}"
    );
    assert!(
        refused.contains("it does not believe this client's certificate"),
        "{refused}"
    );
}
