//! `holdfast demo`: the main job on real input, with evidence that others write.
//!
//! It starts the platform as a child of its own (so that it can be killed), and is from then on
//! nothing but a client of its public API. What it shows is read from outside: the tool server's
//! log, the provider's log, the ledger.
#![expect(
    clippy::disallowed_methods,
    reason = "the demo is a client with processes of its own, not the platform"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use serde::Serialize;

mod agent;
mod budget;
mod client;
mod crash;
mod held;
mod narrator;
mod platform;

use narrator::Narrator;
use platform::Stage;

/// Where a server is that was told nothing.
const URL_OF_A_SERVER: &str = "http://127.0.0.1:8420";

/// Show the whole of it in under a minute.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Keep the evidence in this new folder; else a temporary one is used.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Leave the platform running at the end.
    #[arg(long)]
    keep: bool,
    /// Send these words through the same tools, instead of the whole show.
    #[arg(long)]
    task: Option<String>,
    /// End with one JSON object of what was shown.
    #[arg(long)]
    json: bool,
}

/// What the demo showed.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Shown {
    steps: usize,
    platform_ms: f64,
    model_ms: f64,
    tool_ms: f64,
    ttft_ms: held::FirstToken,
    budget: budget::Amounts,
}

/// Runs the demo.
pub(crate) fn run(arguments: &DemoArgs) -> anyhow::Result<ExitCode> {
    let temporary = if arguments.data.is_none() { Some(tempfile::tempdir()?) } else { None };
    let data = match (&arguments.data, &temporary) {
        (Some(data), _) => data.clone(),
        (None, Some(temporary)) => temporary.path().join("data"),
        (None, None) => anyhow::bail!("no data folder"),
    };
    let data = super::serve::folder::prepare(&data)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let narrator = Narrator::new(arguments.json);
    ensure!(
        arguments.task.is_some() || !Stage::was_set(&data),
        "{} has an earlier demo in it, which would be counted too; name a new folder by --data",
        data.display()
    );
    let stage = Stage::set(&data)?;
    let shown = runtime.block_on(async {
        match &arguments.task {
            Some(task) => one_task(&stage, &narrator, task, arguments.keep).await,
            None => whole_show(&stage, &narrator, arguments.keep).await,
        }
    });
    if arguments.keep
        && let Some(temporary) = temporary
    {
        narrator.say(&format!("The data folder stays: {}", temporary.keep().display()))?;
    }
    if let Some(shown) = shown? {
        narrator.finish(&shown)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn whole_show(
    stage: &Stage,
    narrator: &Narrator,
    keep: bool,
) -> anyhow::Result<Option<Shown>> {
    narrator.part(1, "The platform")?;
    let mut platform = stage.start(None)?;
    let provider = stage.start_provider()?;
    stage.say_where(narrator)?;

    narrator.part(2, "An agent task on the local model")?;
    let loop_times = agent::show(stage, narrator).await?;

    narrator.part(3, "The same task on a priced provider, and kill -9 in the middle")?;
    platform = crash::after_outcome(stage, narrator, platform).await?;
    platform = crash::while_running(stage, narrator, platform).await?;

    narrator.part(4, "Time to the first token, with held state and without")?;
    let (platform, ttft_ms) = held::show(stage, narrator, platform).await?;

    narrator.part(5, "A hard budget under 64 concurrent calls")?;
    let budget = budget::show(stage, narrator).await?;

    narrator.part(6, "The bill of the task")?;
    agent::bill(stage, narrator).await?;
    if keep {
        stage.say_how_to_go_on(narrator)?;
        stays(narrator, &[platform.leave(), provider.leave()])?;
    } else {
        say_how_to_try(narrator)?;
        drop(provider);
        platform.stop()?;
    }
    let agent::LoopTimes { steps, platform_ms, model_ms, tool_ms } = loop_times;
    Ok(Some(Shown { steps, platform_ms, model_ms, tool_ms, ttft_ms, budget }))
}

/// The reader's own words through the same tools.
async fn one_task(
    stage: &Stage,
    narrator: &Narrator,
    task: &str,
    keep: bool,
) -> anyhow::Result<Option<Shown>> {
    let platform = stage.start(None)?;
    stage.say_where(narrator)?;
    narrator.say("")?;
    let turn = stage
        .client()
        .turn("local/demo", task, None, "your-task")
        .await
        .context("running your task")?;
    narrator.exchange(task, &turn)?;
    if keep {
        stage.say_how_to_go_on(narrator)?;
        stays(narrator, &[platform.leave()])?;
    } else {
        platform.stop()?;
    }
    Ok(None)
}

/// How to end what was left running.
fn stays(narrator: &Narrator, pids: &[u32]) -> anyhow::Result<()> {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    narrator.say(&format!("\nLeft running. To stop it: kill {}", pids.join(" ")))
}

/// What the reader can do next: the demo's own server ends with it.
fn say_how_to_try(narrator: &Narrator) -> anyhow::Result<()> {
    narrator.say(
        "\nTry it yourself. In one terminal, in a folder of your own:\n\n  holdfast serve\n\nand in another, in the same folder:\n",
    )?;
    narrator.say(&examples(URL_OF_A_SERVER, Path::new("holdfast-data/admin.key")))?;
    narrator.say(
        "  `holdfast demo --task \"…\"` sends your words through the demo's tools; `holdfast demo --keep` leaves all of this running.",
    )
}

/// Two requests that work as they stand.
pub(crate) fn examples(url: &str, key: &Path) -> String {
    let key = key.display();
    format!(
        r#"  curl {url}/v1/chat/completions \
    -H "authorization: Bearer $(cat {key})" \
    -d '{{"model": "local/demo", "messages": [{{"role": "user", "content": "My name is Nora."}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key=open("{key}").read().strip())
  first = client.responses.create(model="local/demo", input="My name is Nora.")
  second = client.responses.create(model="local/demo", previous_response_id=first.id, input="What is my name?")
  print(second.output_text)
"#
    )
}
