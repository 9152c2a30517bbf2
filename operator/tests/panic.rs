//! An operator without one of its tasks looks well and does nothing, so it ends.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

#[test]
fn a_panic_in_any_task_ends_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    // Nobody answers there, which the operator bears.
    let cluster = "{name: none, cluster: {server: 'https://127.0.0.1:1'}}";
    let context = "{name: none, context: {cluster: none, user: none}}";
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{cluster}]\nusers: [{{name: none, user: {{}}}}]\n\
         contexts: [{context}]\ncurrent-context: none\n"
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let mut operator = Command::new(env!("CARGO_BIN_EXE_appsockets-operator"));
    operator.args(["--panic", "--metrics", "127.0.0.1:0"]).env("KUBECONFIG", &kubeconfig).env("POD_NAME", "one");
    let output = operator.stdout(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{said}");
    assert!(said.contains("this was asked for"), "{said}");
}
