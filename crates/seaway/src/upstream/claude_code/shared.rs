//! What the tasks around the children share.

use std::sync::Arc;

use super::children::Children;
use super::conversations::Conversations;
use super::installed::Installed;
use super::plan::Plan;
use crate::config::{self, Limits, UpstreamName};

pub(super) struct ProgramState {
    pub(super) limits: Limits,
    pub(super) children: Arc<Children>,
    pub(super) conversations: Conversations,
    pub(super) plan: Plan,
}

impl ProgramState {
    pub(super) fn name(&self) -> &UpstreamName {
        &self.children.spawner.name
    }

    pub(super) fn setting(&self) -> &config::ProgramConfig {
        &self.children.spawner.setting
    }

    pub(super) fn installed(&self) -> &Installed {
        &self.children.spawner.installed
    }
}
