//! What shells complete.

use std::process::{Command, Stdio};

use super::tool::{command, ran};

#[test]
fn every_shell_gets_a_script_that_names_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = ran(&mut command(&["completions", shell]));
        for word in ["sub", "pub", "presence", "history", "bench", "admin", "metrics", "--since"] {
            let bare = word.trim_start_matches('-');
            assert!(script.is_done().contains(bare), "{shell}: {word}");
        }
    }
    ran(&mut command(&["completions", "abacus"])).is_fault(2, "invalid value");
}

#[test]
fn bash_completes_with_it() {
    let script = ran(&mut command(&["completions", "bash"]));
    let ask =
        r#"COMP_WORDS=(appsockets admin get ch); COMP_CWORD=3; _appsockets appsockets ch get; echo "${COMPREPLY[@]}""#;
    let bash = Command::new("bash").args(["-c", &format!("{}\n{ask}", script.is_done())]).stdin(Stdio::null()).output();
    assert_eq!(String::from_utf8(bash.unwrap().stdout).unwrap(), "channel-rules channel\n");
}

#[test]
fn help_tells_of_exit_codes() {
    let help = ran(&mut command(&["--help"]));
    assert!(help.is_done().contains("3  the server could not be reached"), "{help:?}");
}
