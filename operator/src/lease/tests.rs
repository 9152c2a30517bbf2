//! How long a holder of the lease goes on.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use kube::Client;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use super::{Api, DEADLINE, DURATION, Lease, LeaseObject, RENEWAL, Won};

const ME: &str = "one_a1";
/// How long the API server takes for an answer, by the clock of the tests, which waits for nothing.
const ANSWER: Duration = Duration::from_millis(900);

/// What an API server does with a renewal, by how many there were before.
type Answer = fn(usize, Value) -> Response;

fn held(term: u64) -> Value {
    json!({"metadata": {"name": "operator"}, "spec": {"holderIdentity": ME, "leaseTransitions": term}})
}

fn failure(status: StatusCode) -> Response {
    let failure =
        json!({"kind": "Status", "status": "Failure", "code": status.as_u16(), "message": "no", "reason": ""});
    (status, Json(failure)).into_response()
}

/// An operator's lease, and when the last renewal that the API server took began.
fn lease(answer: Answer) -> (Lease, Arc<Mutex<Instant>>) {
    let (times, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Instant::now())));
    let taken = last.clone();
    let put = async move |Json(new): Json<Value>| {
        let began = Instant::now();
        let response = answer(times.fetch_add(1, Ordering::Relaxed), new);
        match response.status() {
            StatusCode::OK => *taken.lock().unwrap() = began,
            // It does not answer.
            StatusCode::NO_CONTENT => std::future::pending().await,
            _ => {}
        }
        sleep(ANSWER).await;
        response
    };
    let path = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/operator";
    let router = Router::new().route(path, get(async || Json(held(4))).put(put));
    let api: Api<LeaseObject> = Api::namespaced(Client::new(router, "shop"), "shop");
    (Lease::new(api, "operator", ME.to_owned()), last)
}

/// How long the holder goes on after the begin of the last renewal that was taken.
async fn goes_on(answer: Answer) -> Duration {
    let (lease, last) = lease(answer);
    let won = serde_json::from_value(held(4)).unwrap();
    lease.keep(Won(won, Instant::now())).await.unwrap_err();
    last.lock().unwrap().elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_holder_ends_before_another_one_may_begin() {
    let silent = |times: usize, new: Value| match times {
        0..3 => Json(new).into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    };
    let failing = |times: usize, new: Value| match times {
        0..3 => Json(new).into_response(),
        _ => failure(StatusCode::INTERNAL_SERVER_ERROR),
    };
    for answer in [silent as Answer, failing] {
        let took = goes_on(answer).await;
        assert!(took <= DEADLINE + Duration::from_millis(10) && took > RENEWAL, "{took:?}");
    }
}

/// Who waits for the lease sees a label that changes and no renewal.
#[tokio::test(start_paused = true)]
async fn a_lease_that_others_write_to_all_the_time_is_not_renewed() {
    assert!(goes_on(|_, _| failure(StatusCode::CONFLICT)).await < DURATION);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_others_wrote_to_is_renewed_at_the_next_attempt() {
    let conflicts = |times: usize, new: Value| match times {
        3 => StatusCode::NO_CONTENT.into_response(),
        times if times % 2 == 0 => failure(StatusCode::CONFLICT),
        _ => Json(new).into_response(),
    };
    let took = goes_on(conflicts).await;
    assert!(took <= DEADLINE + Duration::from_millis(10), "{took:?}");
}
