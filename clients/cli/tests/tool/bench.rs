//! `bench`.

use serde_json::Value;

use super::server::Server;

#[test]
fn every_message_is_accounted_for() {
    let server = Server::start();
    let load = ["bench", "--subscribers", "5", "--publishers", "3", "--rate", "90", "--seconds", "2", "--json"];
    let ran = server.run(&load);
    let report: Value = serde_json::from_str(ran.is_done()).unwrap();
    for (field, count) in [("accepted", 180), ("expected", 900), ("heard", 900), ("lost", 0), ("repeated", 0)] {
        assert_eq!(report[field], count, "{field}: {report}");
    }
    assert_eq!((&report["outOfOrder"], &report["unknown"]), (&0.into(), &0.into()));
    let (median, max) = (&report["deliveryUs"]["p50"], &report["deliveryUs"]["max"]);
    assert!(median.as_u64() > Some(0) && max.as_u64() >= median.as_u64(), "{report}");
}

#[test]
fn what_the_node_refuses_is_no_loss() {
    let server = Server::start();
    // Beyond what one session may send.
    let ran = server.run(&["bench", "--subscribers", "1", "--rate", "1000", "--seconds", "1"]);
    ran.is_fault(1, "rate_limited (103)");
    assert!(ran.out.contains(": 0 lost, 0 repeated, 0 out of order"), "{ran:?}");
    server.run(&["bench", "closed"]).is_fault(1, "channel_denied (111)");
}
