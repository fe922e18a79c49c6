//! `firmcast-fleet webhook`: who is told of events.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use firmcast_fleet::model::{Delivery, EventKind, Secret, Webhook};
use firmcast_fleet::store::Store;
use firmcast_fleet::store::requests::Changed;
use firmcast_fleet::webhooks::{
    Message, Postman, REQUEST_MAX, SECRETS_MAX, check_secret, check_url, new_secret,
};
use serde_json::json;

use super::people::who;
use super::terminal::{columns, remark, say, shown};
use super::{Place, now, random};

/// Largest file that can be a secret, in bytes.
const SECRET_FILE_BYTES_MAX: u64 = 1024;

#[derive(Debug, Args)]
pub(crate) struct WebhookArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Have events sent to a URL, and write the secret that signs them: it is shown only now
    Add(AddArgs),
    /// List who is told of events, and how far they are
    List {
        /// Write JSON, one webhook in each line
        #[arg(long)]
        json: bool,
    },
    /// Send no further event to a webhook, and forget it
    Remove(Named),
    /// Send a message that tells of nothing, from this machine, and say what came of it
    Test(Named),
    /// Make a second secret, and write it; both sign from then on
    Rotate {
        #[command(flatten)]
        named: Named,
        /// The receiver has the new secret: the old one signs no more
        #[arg(long)]
        finish: bool,
    },
}

#[derive(Debug, Args)]
struct Named {
    /// The webhook's name
    name: String,
}

#[derive(Debug, Args)]
struct AddArgs {
    #[command(flatten)]
    named: Named,
    /// Where events are sent to, https://HOST/PATH
    url: String,
    /// Only events of this kind; may be repeated [default: all but claimed and stage]
    #[arg(long = "kind", value_name = "KIND", value_parser = kind)]
    kinds: Vec<EventKind>,
    /// Begin after the event of this number [default: the last one there is]
    #[arg(long, value_name = "NUMBER")]
    after: Option<i64>,
    /// What events name as their source, if one receiver hears of several fleets
    #[arg(long, value_name = "URI", default_value = "/firmcast-fleet", value_parser = source)]
    source: String,
    /// Sign with the secret in FILE, instead of a new one
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl WebhookArgs {
    /// Does what the command line says.
    pub(crate) fn run(self, place: &Place) -> anyhow::Result<ExitCode> {
        let mut store = place.store()?;
        let store = store.as_mut();
        match self.command {
            Command::Add(args) => add(store, args)?,
            Command::List { json } => list(store, json)?,
            Command::Remove(Named { name }) => {
                store.remove_webhook(&name)?;
                say(&format!("webhook {} is told of nothing more", shown(&name)));
            }
            Command::Test(Named { name }) => {
                let webhook = named(store, &name)?;
                let number = u64::from_le_bytes(random()?);
                let message = Message::trial(number, &who(), &webhook.source, now());
                let posted =
                    Postman::new(REQUEST_MAX).post(&webhook.url, &webhook.secrets, &message);
                posted.with_context(|| shown(&webhook.url))?;
                say(&format!("{} took the message {}", shown(&webhook.url), message.id));
            }
            Command::Rotate { named, finish } => rotate(store, &named.name, finish)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn kind(text: &str) -> Result<EventKind, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

fn source(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.chars().all(|letter| letter.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("expected a URI, such as /fleets/berlin".to_owned()),
    }
}

fn named(store: &mut dyn Store, name: &str) -> anyhow::Result<Webhook> {
    let found = store.webhooks()?.into_iter().find(|webhook| webhook.name == name);
    found.with_context(|| {
        format!("there is no webhook {name:?}: firmcast-fleet webhook list shows those there are")
    })
}

fn add(store: &mut dyn Store, args: AddArgs) -> anyhow::Result<()> {
    let AddArgs { named: Named { name }, url, kinds, after, source, secret_file } = args;
    check_url(&url)?;
    let (secret, is_new) = match secret_file {
        Some(file) => (secret_of(&file)?, false),
        None => (new_secret(random()?), true),
    };
    let last = store.survey(now())?.last_event.map_or(0, |(id, _)| id);
    let delivered = after.unwrap_or(last);
    let webhook = Webhook {
        id: 0,
        name: name.clone(),
        url: url.clone(),
        source,
        kinds,
        secrets: vec![secret.clone()],
        created_by: who(),
        created_at: now(),
        delivery: Delivery { delivered, ..Delivery::default() },
    };
    if store.add_webhook(&webhook)? == Changed::Before {
        bail!(
            "there is a webhook {name:?} already: give this one another name, or remove that one"
        );
    }
    remark(&format!("webhook {} is told of events after number {delivered}", shown(&name)));
    if url.starts_with("http://") {
        remark("http:// can be read on the way; only changes are noticed, by the signature");
    }
    if is_new {
        remark("give the receiver this secret, it is not shown again:");
        say(&secret.0);
    }
    Ok(())
}

fn secret_of(file: &Path) -> anyhow::Result<Secret> {
    let cannot = || format!("cannot read {}", file.display());
    let mut text = String::new();
    let opened = std::fs::File::open(file).with_context(cannot)?;
    opened.take(SECRET_FILE_BYTES_MAX).read_to_string(&mut text).with_context(cannot)?;
    let secret = Secret(text.trim().to_owned());
    check_secret(&secret).with_context(|| file.display().to_string())?;
    Ok(secret)
}

fn rotate(store: &mut dyn Store, name: &str, finish: bool) -> anyhow::Result<()> {
    let mut secrets = named(store, name)?.secrets;
    if finish {
        secrets.truncate(1);
        store.set_secrets(name, &secrets)?;
        say(&format!("webhook {} has one secret, the newest", shown(name)));
        return Ok(());
    }
    if secrets.len() >= SECRETS_MAX {
        bail!(
            "webhook {name:?} has {SECRETS_MAX} secrets already: when the receiver has the newest, \
             firmcast-fleet webhook rotate --finish forgets the other"
        );
    }
    secrets.insert(0, new_secret(random()?));
    store.set_secrets(name, &secrets)?;
    remark("both secrets sign from now on. Give the receiver the new one, then rotate --finish:");
    secrets.iter().take(1).for_each(|secret| say(&secret.0));
    Ok(())
}

fn list(store: &mut dyn Store, json: bool) -> anyhow::Result<()> {
    let webhooks = store.webhooks()?;
    let survey = store.survey(now())?;
    let last = survey.last_event.map_or(0, |(id, _)| id);
    if json {
        for webhook in &webhooks {
            say(&as_json(webhook, last).to_string());
        }
        return Ok(());
    }
    let head = ["NAME", "URL", "EVENTS", "BEHIND", "STATE"].map(str::to_owned).to_vec();
    let row = |webhook: &Webhook| {
        let behind = last.saturating_sub(webhook.delivery.delivered);
        let (name, url) = (shown(&webhook.name), shown(&webhook.url));
        vec![name, url, kinds(webhook), behind.to_string(), state(&webhook.delivery)]
    };
    let rows: Vec<_> = std::iter::once(head).chain(webhooks.iter().map(row)).collect();
    say(&columns(&rows));
    let is_sending = survey.sender_until.is_some_and(|until| until > now());
    if !webhooks.is_empty() && !is_sending {
        remark("nobody delivers: start firmcast-fleet webhooks");
    }
    Ok(())
}

fn as_json(webhook: &Webhook, last: i64) -> serde_json::Value {
    let Webhook { name, url, source, kinds, secrets, created_by, created_at, delivery, .. } =
        webhook;
    json!({
        "name": name, "url": url, "source": source, "kinds": kinds, "secrets": secrets.len(),
        "created_by": created_by, "created_at": created_at,
        "delivered": delivery.delivered, "behind": last.saturating_sub(delivery.delivered),
        "failures": delivery.failures, "failing": delivery.is_failing(),
        "next_at": delivery.next_at, "trouble": delivery.trouble,
    })
}

fn kinds(webhook: &Webhook) -> String {
    let word = |kind: &EventKind| match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    };
    match webhook.kinds.is_empty() {
        true => "all but steps".to_owned(),
        false => webhook.kinds.iter().map(word).collect::<Vec<_>>().join(","),
    }
}

fn state(delivery: &Delivery) -> String {
    let Delivery { failures, trouble, .. } = delivery;
    match failures {
        0 => "well".to_owned(),
        _ if delivery.is_failing() => format!("failing, {failures} times: {}", shown(trouble)),
        _ => format!("tried again, {failures} times: {}", shown(trouble)),
    }
}
