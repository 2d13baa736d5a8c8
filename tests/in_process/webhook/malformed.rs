//! Malformed reviews over real HTTPS. Each gets a clear answer, and an answer names the review's
//! UID if that is readable. `tests/data/malformed/cases.json` says what the test sends and expects.
//! The API server treats a status other than 200 as a failure, and refuses the request.

use axum::http::{Request, StatusCode};
use serde_json::Value;
use tests::repository::{read, root};
use tests::served::{Webhook, path};

fn case(route: &str, kind: Option<&str>, body: Vec<u8>) -> Request<Vec<u8>> {
    let mut request = Request::post(path(route));
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    request.body(body).unwrap()
}

#[tokio::test]
async fn every_recorded_case_has_its_answer() {
    let webhook = Webhook::start().await;
    let cases: Vec<Value> = serde_json::from_str(&read("tests/data/malformed/cases.json")).unwrap();
    for expected in &cases {
        let name = expected["body"].as_str().unwrap();
        let body = std::fs::read(root().join("tests/data/malformed").join(name)).unwrap();
        let kind = expected.get("contentType").map_or(Some("application/json"), Value::as_str);
        let uid = serde_json::from_str::<Value>(&String::from_utf8_lossy(&body))
            .ok()
            .map(|review| review["request"]["uid"].clone());
        for route in ["opt-in", "kill"] {
            let (status, answer) = webhook.send(case(route, kind, body.clone())).await;
            let text = String::from_utf8(answer).unwrap();
            assert_eq!(Value::from(status.as_u16()), expected["status"], "{name} {route}: {text}");
            if status == StatusCode::OK {
                let answer: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(
                    (&answer["response"]["allowed"], &answer["response"]["status"]["code"]),
                    (&false.into(), &400.into())
                );
                assert_eq!(Some(&answer["response"]["uid"]), uid.as_ref(), "{name}");
                let message = answer["response"]["status"]["message"].as_str().unwrap();
                assert!(message.contains(expected["words"].as_str().unwrap()), "{name}: {message}");
            } else {
                assert!(text.contains(expected["words"].as_str().unwrap()), "{name}: {text}");
            }
        }
    }
    assert!(cases.len() > 10);
}

#[tokio::test]
async fn eight_mebibytes_are_read_and_one_byte_more_is_not() {
    let webhook = Webhook::start().await;
    let review = read("tests/data/opt-in.json");
    for (more, expected) in [(0, StatusCode::OK), (1, StatusCode::PAYLOAD_TOO_LARGE)] {
        let padded = review.clone() + &" ".repeat(8 * 1024 * 1024 - review.len() + more);
        let (status, answer) =
            webhook.send(case("opt-in", Some("application/json"), padded.into_bytes())).await;
        let text = String::from_utf8(answer).unwrap();
        assert_eq!(status, expected, "{text}");
        assert!(status == StatusCode::OK || text.contains("more than 8388608 bytes"), "{text}");
    }
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let webhook = Webhook::start().await;
    let get = Request::get(path("opt-in")).body(Vec::new()).unwrap();
    assert_eq!(webhook.send(get).await.0, StatusCode::METHOD_NOT_ALLOWED);
    for stranger in ["/", "/opt-in", "/kill/0-0"] {
        let request = Request::post(stranger).header("content-type", "application/json");
        let request = request.body(b"{}".to_vec()).unwrap();
        assert_eq!(webhook.send(request).await.0, StatusCode::FORBIDDEN, "{stranger}");
    }
}
