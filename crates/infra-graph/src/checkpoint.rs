//! What is stored about an execution under `execution:<id>`.
//!
//! One key, one write per step. The facts of the beginning (graph, inputs, start time) are part
//! of every write, so no later checkpoint can lose them. Each output is encoded once, when its
//! node completes; later checkpoints copy the text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::timestamp;

/// How far an execution is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// Under way, or cut off by a crash.
    Running,
    /// Every node has completed.
    Completed,
    /// A node failed; can be resumed.
    Failed,
    /// Stopped by the emergency level; can be resumed.
    Halted,
}

impl Status {
    /// The word in checkpoints and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Halted => "halted",
        }
    }
}

/// A stored execution, for operators and tools.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The graph's name.
    pub graph_id: String,
    /// The graph's fingerprint as 16 hexadecimal digits.
    pub graph_version: String,
    /// When it first started: RFC 3339, UTC.
    pub started_at: String,
    /// How far it is.
    pub status: Status,
    /// What it was started with.
    pub inputs: Value,
    /// The outputs of completed nodes.
    pub outputs: BTreeMap<String, Value>,
    /// The nodes that have completed, in that order.
    pub nodes_completed: Vec<String>,
    /// The last node that anything was written about.
    #[serde(default)]
    pub current_node: Option<String>,
    /// Nodes marked not idempotent that were started and whose outcome is not known.
    #[serde(default)]
    pub started: Vec<String>,
    /// Why it failed or was halted.
    #[serde(default)]
    pub error: Option<String>,
}

/// The facts that never change after the first checkpoint.
#[derive(Serialize)]
pub(crate) struct Beginning<'a> {
    pub(crate) graph_id: &'a str,
    pub(crate) graph_version: String,
    pub(crate) execution_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) strategy_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bot_id: Option<&'a str>,
    pub(crate) started_at: String,
    pub(crate) inputs: &'a Value,
}

impl<'a> Beginning<'a> {
    pub(crate) fn now(graph_id: &'a str, version: u64, execution_id: &'a str) -> Self {
        Beginning {
            graph_id,
            graph_version: version_text(version),
            execution_id,
            strategy_id: None,
            bot_id: None,
            started_at: timestamp::now(),
            inputs: &Value::Null,
        }
    }
}

pub(crate) fn version_text(fingerprint: u64) -> String {
    format!("{fingerprint:016x}")
}

/// The checkpoint of a running execution as text that only grows.
pub(crate) struct Draft {
    /// The facts and the opened `outputs` object.
    text: String,
    /// The members of `nodes_completed`.
    completed: String,
    completed_count: usize,
    current: Option<Arc<str>>,
    started: Vec<Arc<str>>,
}

impl Draft {
    pub(crate) fn new(beginning: &Beginning<'_>) -> serde_json::Result<Self> {
        let mut text = serde_json::to_string(beginning)?;
        text.pop(); // the closing brace: the object goes on
        text.push_str(",\"outputs\":{");
        Ok(Draft {
            text,
            completed: String::new(),
            completed_count: 0,
            current: None,
            started: Vec::new(),
        })
    }

    /// Marks a node that is not idempotent as started.
    pub(crate) fn start(&mut self, node: &Arc<str>) {
        self.current = Some(node.clone());
        self.started.push(node.clone());
    }

    /// Takes the mark back: the node is known not to have had an effect.
    pub(crate) fn withdraw(&mut self, node: &str) {
        self.started.retain(|started| **started != *node);
    }

    /// Adds the output of a completed node.
    pub(crate) fn complete(&mut self, node: &Arc<str>, output: &RawValue) {
        self.withdraw(node);
        if self.completed_count > 0 {
            self.text.push(',');
            self.completed.push(',');
        }
        push_string(&mut self.completed, node);
        push_string(&mut self.text, node);
        self.text.push(':');
        self.text.push_str(output.get());
        self.completed_count += 1;
        self.current = Some(node.clone());
    }

    pub(crate) fn completed_count(&self) -> usize {
        self.completed_count
    }

    /// Remembers the node at which the execution stopped.
    pub(crate) fn stopped_at(&mut self, node: &Arc<str>) {
        self.current = Some(node.clone());
    }

    /// The whole checkpoint.
    pub(crate) fn render(&self, status: Status, error: Option<&str>) -> String {
        let size = self.text.len() + self.completed.len() + 160;
        let mut text = String::with_capacity(size);
        text.push_str(&self.text);
        let _ = write!(text, "}},\"nodes_completed\":[{}]", self.completed);
        if let Some(node) = &self.current {
            text.push_str(",\"current_node\":");
            push_string(&mut text, node);
        }
        if !self.started.is_empty() {
            text.push_str(",\"started\":[");
            for (i, node) in self.started.iter().enumerate() {
                text.push_str(if i == 0 { "" } else { "," });
                push_string(&mut text, node);
            }
            text.push(']');
        }
        if let Some(error) = error {
            text.push_str(",\"error\":");
            push_string(&mut text, error);
        }
        let _ = write!(text, ",\"status\":\"{}\"}}", status.as_str());
        text
    }
}

/// Appends `value` as a JSON string.
fn push_string(text: &mut String, value: &str) {
    let plain = |b: u8| b >= 0x20 && b != b'"' && b != b'\\';
    if value.bytes().all(plain) {
        text.push('"');
        text.push_str(value);
        text.push('"');
    } else {
        text.push_str(&Value::from(value).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use serde_json::value::to_raw_value;

    fn draft() -> Draft {
        let inputs = json!({"date": "2000-03-01"});
        let mut beginning = Beginning::now("momentum", 7, "run/1");
        beginning.inputs = &inputs;
        Draft::new(&beginning).unwrap()
    }

    #[test]
    fn later_checkpoints_keep_the_facts_of_the_first() {
        let mut draft = draft();
        let first: Checkpoint = serde_json::from_str(&draft.render(Status::Running, None)).unwrap();
        draft.complete(
            &"price".into(),
            &to_raw_value(&json!({"close": 1.5})).unwrap(),
        );
        draft.complete(&"sig\"nal".into(), &to_raw_value(&json!(true)).unwrap());
        let text = draft.render(Status::Failed, Some("a \"quoted\" error"));
        let later: Checkpoint = serde_json::from_str(&text).unwrap();
        assert_eq!(later.started_at, first.started_at);
        assert_eq!(later.inputs, json!({"date": "2000-03-01"}));
        assert_eq!(later.nodes_completed, ["price", "sig\"nal"]);
        assert_eq!(later.outputs["sig\"nal"], json!(true));
        assert_eq!(later.current_node.as_deref(), Some("sig\"nal"));
        assert_eq!(later.status, Status::Failed);
        assert_eq!(later.error.as_deref(), Some("a \"quoted\" error"));
    }

    #[test]
    fn a_started_mark_stays_until_the_outcome_is_known() {
        let mut draft = draft();
        draft.start(&"order".into());
        let read = |draft: &Draft| -> Checkpoint {
            serde_json::from_str(&draft.render(Status::Running, None)).unwrap()
        };
        assert_eq!(read(&draft).started, ["order"]);
        draft.complete(&"order".into(), &to_raw_value(&json!(1)).unwrap());
        assert!(read(&draft).started.is_empty());
    }
}
