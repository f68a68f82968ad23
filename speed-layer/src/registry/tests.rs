//! Tests the client against a small scripted registry, which can fail.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};

use super::*;

/// The registry's next answers, and the requests that it has received.
#[derive(Default)]
pub(crate) struct Script {
    answers: Mutex<HashMap<String, VecDeque<(u16, String)>>>,
    pub(crate) asked: Mutex<Vec<String>>,
    password: Option<&'static str>,
}

async fn answer(State(script): State<Arc<Script>>, uri: Uri, headers: HeaderMap) -> (StatusCode, String) {
    let path = uri.to_string();
    script.asked.lock().unwrap().push(path.clone());
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap());
    if script.password.is_some() && authorization != script.password {
        return (StatusCode::UNAUTHORIZED, String::new());
    }
    let mut answers = script.answers.lock().unwrap();
    let Some(queue) = answers.get_mut(&path) else {
        return (StatusCode::NOT_FOUND, r#"{"error_code": 40403, "message": "no"}"#.to_owned());
    };
    let (status, body) = if queue.len() > 1 { queue.pop_front().unwrap() } else { queue[0].clone() };
    (StatusCode::from_u16(status).unwrap(), body)
}

impl Script {
    pub(crate) fn with(self, path: &str, answers: &[(u16, &str)]) -> Script {
        let answers = answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
        self.answers.lock().unwrap().insert(path.to_owned(), answers);
        self
    }

    pub(crate) async fn serve(self) -> (Arc<Script>, String) {
        let script = Arc::new(self);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (script, address)
    }
}

fn registry(url: &str, change: impl FnOnce(&mut AvroSettings)) -> Result<Registry, SpeedError> {
    let mut settings = AvroSettings { registry: Some(url.into()), ..AvroSettings::default() };
    change(&mut settings);
    Registry::open(EventKind::BidRequest, &settings).map(Option::unwrap)
}

fn ids(ids: &[u32]) -> BTreeSet<u32> {
    ids.iter().copied().collect()
}

fn schema(schema: serde_json::Value, references: serde_json::Value) -> String {
    serde_json::json!({"schema": schema.to_string(), "references": references}).to_string()
}

fn record(name: &str, field_type: &str) -> serde_json::Value {
    serde_json::json!({"type": "record", "name": name, "fields": [{"name": "f", "type": field_type}]})
}

#[tokio::test]
async fn each_id_is_asked_for_once_with_what_it_refers_to() {
    let reference = |subject: &str| serde_json::json!({"name": subject, "subject": subject, "version": 2});
    let outer = schema(record("a.Outer", "a.Inner"), serde_json::json!([reference("in/ner"), reference("leaf")]));
    let inner = schema(record("a.Inner", "a.Leaf"), serde_json::json!([reference("leaf")]));
    let leaf = schema(record("a.Leaf", "int"), serde_json::json!(null));
    let (script, address) = Script::default()
        .with("/api/schemas/ids/1", &[(200, &outer)])
        .with("/api/subjects/in%2Fner/versions/2?deleted=true", &[(200, &inner)])
        .with("/api/subjects/leaf/versions/2?deleted=true", &[(200, &leaf)])
        .with("/api/schemas/ids/2", &[(200, r#"{"schema": "{}", "schemaType": "PROTOBUF"}"#)])
        .with("/api/schemas/ids/3", &[(200, r#"{"schema": "{\"type\": \"recor\"}"}"#)])
        .with("/api/schemas/ids/4", &[(200, &schema(record("a.B", "a.C"), serde_json::json!([reference("gone")])))])
        .serve()
        .await;
    let registry = registry(&format!("{address}/api/"), |_| ()).unwrap();
    registry.fetch(&ids(&[1, 2, 3, 4, 5])).await.unwrap();
    assert!(matches!(registry.get(1), Some(KnownSchema::Schema(_))), "{:?}", registry.get(1));
    for (id, wanted) in [(2, "PROTOBUF"), (3, "not an Avro schema"), (4, "version 2 of gone")] {
        match registry.get(id) {
            Some(KnownSchema::Unusable(detail)) => assert!(detail.contains(wanted), "{detail}"),
            other => panic!("{id}: {other:?}"),
        }
    }
    assert!(matches!(registry.get(5), Some(KnownSchema::Unknown)));
    assert!(registry.get(6).is_none());
    assert_eq!(script.asked.lock().unwrap().len(), 5 + 3);

    // The ids that a chunk needs. Known ids are not requested again.
    let mut chunk = Chunk::new(0);
    for (offset, id) in [1u32, 7, 7, 5, 2, 9].iter().enumerate() {
        assert!(chunk.push(offset as i64, None, None, &[&[0][..], &id.to_be_bytes(), b"x"].concat()));
    }
    assert!(chunk.push(9, None, None, b"Obj"));
    let mut wanted = BTreeSet::new();
    registry.wanted(&chunk, &mut wanted);
    assert_eq!(wanted, ids(&[7, 9]));
    // No registry has such an id. Confluent's answers it with a 404 that looks like one from
    // something else.
    let mut chunk = Chunk::new(0);
    assert!(chunk.push(0, None, None, &[0, 0x80, 0, 0, 0, 1]));
    registry.wanted(&chunk, &mut wanted);
    assert_eq!(wanted, ids(&[7, 9]));
    assert!(matches!(registry.get(1 << 31), Some(KnownSchema::Unknown)));
}

#[tokio::test]
async fn outages_are_errors_and_teach_nothing() {
    let good = schema(record("R", "int"), serde_json::json!([]));
    let (_, address) = Script::default()
        .with("/schemas/ids/1", &[(503, ""), (200, &good)])
        .with("/schemas/ids/2", &[(200, &good)])
        .with("/schemas/ids/3", &[(404, "<html/>")])
        .serve()
        .await;
    let registry = registry(&address, |_| ()).unwrap();
    let error = registry.fetch(&ids(&[1, 2])).await.unwrap_err().to_string();
    assert!(error.contains("503") && error.contains("/schemas/ids/1"), "{error}");
    assert!(registry.get(1).is_none());
    assert!(registry.get(2).is_some(), "what could be learnt is kept");
    registry.fetch(&ids(&[1])).await.unwrap();
    assert!(registry.get(1).is_some());
    assert!(registry.fetch(&ids(&[3])).await.is_err());

    // An address where nothing listens, and a server that never answers.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", closed.local_addr().unwrap());
    let wait = |settings: &mut AvroSettings| settings.registry_timeout = Some(Duration::from_millis(200));
    let error = super::tests::registry(&silent, wait).unwrap().fetch(&ids(&[1])).await.unwrap_err().to_string();
    assert!(error.contains("timed out") || error.contains("timeout"), "{error}");
    drop(closed);
    let error = super::tests::registry(&silent, wait).unwrap().fetch(&ids(&[1])).await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("connect"), "{error}");
}

#[tokio::test]
async fn users_have_passwords() {
    let good = schema(record("R", "int"), serde_json::json!([]));
    // ada:pass word
    let script = Script { password: Some("Basic YWRhOnBhc3Mgd29yZA=="), ..Script::default() };
    let (_, address) = script.with("/schemas/ids/1", &[(200, &good)]).serve().await;
    let error = registry(&address, |_| ()).unwrap().fetch(&ids(&[1])).await.unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("registry_password"), "{error}");
    let with = |settings: &mut AvroSettings| {
        settings.registry_user = Some("ada".to_owned());
        settings.registry_password = Some("pass word".into());
    };
    registry(&address, with).unwrap().fetch(&ids(&[1])).await.unwrap();
    // User and password in the address are used and not shown.
    let url = address.replace("http://", "http://ada:hush@");
    let error = registry(&url, |_| ()).unwrap().fetch(&ids(&[1])).await.unwrap_err().to_string();
    assert!(error.contains("401") && !error.contains("hush"), "{error}");
}

#[tokio::test]
async fn no_part_of_an_address_that_may_be_secret_is_shown() {
    let good = schema(record("R", "int"), serde_json::json!([]));
    // A password without a user: ":hush".
    let script = Script { password: Some("Basic Omh1c2g="), ..Script::default() };
    let script = script.with("/schemas/ids/1", &[(200, &good)]).with("/schemas/ids/2", &[(503, "")]);
    let (script, address) = script.serve().await;
    let url = format!("{}/?key=hush#hush", address.replace("http://", "http://:hush@"));
    let registry = registry(&url, |_| ()).unwrap();
    registry.fetch(&ids(&[1])).await.unwrap();
    let error = registry.fetch(&ids(&[2])).await.unwrap_err().to_string();
    for text in [error, format!("{registry:?}"), registry.client.to_string()] {
        assert!(text.contains(&address) && !text.contains("hush"), "{text}");
    }
    assert_eq!(*script.asked.lock().unwrap(), ["/schemas/ids/1", "/schemas/ids/2"]);
}

#[test]
fn settings_that_cannot_work_name_their_key() {
    let check = |url: &str, change: fn(&mut AvroSettings), key: &str| match registry(url, change) {
        Err(SpeedError::Settings { key: found, .. }) => assert_eq!(found, format!("sources.bid_requests.avro.{key}")),
        other => panic!("{url}: {other:?}"),
    };
    check("localhost:8081", |_| (), "registry");
    check("ftp://localhost", |_| (), "registry");
    check("", |_| (), "registry");
    check("https://localhost", |settings| settings.registry_ca_file = Some("/nowhere.pem".into()), "registry_ca_file");
    check("https://localhost", |settings| settings.registry_ca_file = Some("/dev/null".into()), "registry_ca_file");
}
