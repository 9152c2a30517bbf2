//! Settings as they travel.

use appsockets_proto::cluster::{Setting, SettingContent};

use crate::settings::exchange::{Content, Row, Stamp};

pub fn told(row: Row) -> Setting {
    let Row { hub, kind, name, stamp: Stamp { ms, node }, content } = row;
    let content = content.map(|Content { source, uid, generation, resource }| SettingContent {
        source,
        uid,
        generation,
        resource,
    });
    Setting { hub, kind, name, stamp_ms: ms, stamp_node: node, content }
}

pub fn heard(setting: Setting) -> Row {
    let Setting { hub, kind, name, stamp_ms, stamp_node, content } = setting;
    let content = content.map(|SettingContent { source, uid, generation, resource }| Content {
        source,
        uid,
        generation,
        resource,
    });
    Row { hub, kind, name, stamp: Stamp { ms: stamp_ms, node: stamp_node }, content }
}
