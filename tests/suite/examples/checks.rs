//! The pull-request checks of the example: each of their lines is run in a copy of the repository, with a database user
//! that may only read. Only the commands that talk to the code host are replaced, by a script that keeps the comment.

use std::fs;

use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgPool, PgPoolOptions};

use super::{copy, documents, move_to, platform, text};
use crate::controller::planned::Planner;
use crate::controller::scene::Scene;
use crate::guides::page;
use crate::support::names::unique;
use crate::support::run::Finished;
use crate::support::shell::Shell;

const PASSWORD: &str = "hush-hush-reader";
const TOKEN: &str = "hush-hush-token";

/// A script that replaces the command that posts a comment, on GitHub and on GitLab. It writes the comment to a file.
const STAND_IN: &str = "#!/bin/sh
while [ $# -gt 0 ]; do
  case \"$1\" in
    --body-file) cat \"$2\" >\"$COMMENT\" ;;
    body@*) cat \"${1#body@}\" >\"$COMMENT\" ;;
  esac
  shift
done
";

/// A machine that runs the checks in a copy of the repository. It has the rights on production's cluster and database
/// that the guide gives to a pipeline.
struct Runner {
    shell: Shell,
    scene: Scene,
    planner: Planner,
    sql: PgPool,
    role: String,
}

/// Returns the guide's SQL that creates the database user, with another name and password.
fn reader_sql(role: &str) -> String {
    let page = page("docs/platform-team.md");
    let sql = page.split("```sql\n").nth(1).expect("the guide has them").split("```").next().expect("they end");
    let sql = sql.replace("opsadmin_reader", role).replace("PASSWORD '...'", &format!("PASSWORD '{PASSWORD}'"));
    assert!(sql.contains(PASSWORD) && sql.contains(role), "{sql}");
    sql
}

impl Runner {
    /// Creates a runner. Its production is as the repository declares it, in a namespace that only this test uses.
    async fn new(test: &str) -> Self {
        let mut scene = Scene::with_controller(test, &["--unknown-affiliate", "register"]).await;
        let planner = Planner::of(&scene, false).await;
        let mut shell = Shell::new(scene.cluster);
        copy(&platform(""), &shell.path(""));
        shell.set("COMMENT", &shell.path("comment").display().to_string());
        shell.set("KUBECONFIG", &planner.kubeconfig.display().to_string());
        for name in ["gh", "curl"] {
            shell.stand_in(name, STAND_IN);
        }
        move_to(&shell, scene.namespace.name());
        let accounts = shell.run("kubectl kustomize overlays/production/accounts").await.succeeded();
        scene.cluster.kubectl_with("", &["apply", "--server-side", "-f", "-"], &accounts).await.succeeded();
        for account in scene.accounts().list(&ListParams::default()).await.expect("a list") {
            scene.ready(&account.name_any()).await;
        }
        scene.stop().await;

        let sql = PgPoolOptions::new().max_connections(1).connect(scene.database.url()).await;
        let sql = sql.expect("the database answers");
        let role = unique(test).replace('-', "_");
        sqlx::raw_sql(AssertSqlSafe(reader_sql(&role))).execute(&sql).await.expect("the guide's statements are taken");
        Self { shell, scene, planner, sql, role }
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.shell.path(name)).expect("it can be read");
        assert!(text.contains(from), "{text}");
        fs::write(self.shell.path(name), text.replace(from, to)).expect("it can be written");
    }

    /// Returns the value of a setting of the code host.
    fn setting(&self, name: &str) -> String {
        let (_, server) = self.scene.database.url().rsplit_once('@').expect("a URL with a user");
        match name {
            "secrets.OPSADMIN_READER_URL" | "OPSADMIN_READER_URL" => {
                format!("postgres://{}:{PASSWORD}@{server}", self.role)
            }
            "github.token" | "OPSADMIN_COMMENT_TOKEN" => TOKEN.to_owned(),
            "github.event.pull_request.number" => "7".to_owned(),
            other => panic!("the workflow asks for {other}, which no host was asked to have"),
        }
    }

    /// Runs the lines of a step as the code host does, and checks that they print no secret.
    async fn run(&self, lines: &str, environment: &[(String, String)]) -> Finished {
        let finished = self.shell.run_with(lines, environment).await;
        for secret in [PASSWORD, TOKEN] {
            assert!(!finished.stdout.contains(secret) && !finished.stderr.contains(secret), "{finished:?}");
        }
        finished
    }

    fn comment(&self) -> String {
        fs::read_to_string(self.shell.path("comment")).expect("a comment was written")
    }

    /// Runs a job of the GitHub workflow, and returns the outcome of each step that has lines. Steps after a failed
    /// step run only with `!cancelled()`.
    async fn github(&self, job: &str) -> Vec<Finished> {
        let workflow = documents(".github/workflows/api-accounts.yaml").remove(0);
        let mut ended: Vec<Finished> = Vec::new();
        for step in workflow["jobs"][job]["steps"].as_array().expect("a list") {
            let always = step["if"] == "${{ !cancelled() }}";
            if step["run"].is_null() || (!always && ended.iter().any(|step| !step.status.success())) {
                continue;
            }
            let environment: Vec<_> = step["env"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| {
                    let setting = text(value).trim_start_matches("${{ ").trim_end_matches(" }}");
                    (name.clone(), self.setting(setting))
                })
                .collect();
            assert!(!text(&step["run"]).contains("${{"), "what others wrote is never pasted into a line: {step}");
            ended.push(self.run(text(&step["run"]), &environment).await);
        }
        ended
    }

    /// Runs a job of the GitLab pipeline.
    async fn gitlab(&self, job: &str) -> Finished {
        let pipeline = documents(".gitlab-ci.yml").remove(0);
        let lines: Vec<_> = pipeline[job]["script"].as_array().expect("a list").iter().map(text).collect();
        let variables = ["OPSADMIN_READER_URL", "OPSADMIN_COMMENT_TOKEN"];
        let mut environment: Vec<_> = variables.map(|name| (name.to_owned(), self.setting(name))).into();
        environment.push(("CI_API_V4_URL".to_owned(), "https://git.example.com/api/v4".to_owned()));
        self.run(&lines.join("\n"), &environment).await
    }

    async fn end(self) {
        let role = &self.role;
        let gone = format!("DROP OWNED BY {role}; DROP ROLE {role}");
        sqlx::raw_sql(AssertSqlSafe(gone)).execute(&self.sql).await.expect("the role can go");
        self.planner.leave(&self.scene).await;
    }
}

#[tokio::test]
async fn github_comments_on_problems_and_changes_of_a_pull_request() {
    let runner = Runner::new("checks-github").await;
    let (validated, planned) = (runner.github("validate").await, runner.github("plan").await);
    assert!(validated.len() == 2 && planned.len() == 2, "{validated:?} {planned:?}");
    for step in validated.into_iter().chain(planned) {
        step.succeeded();
    }
    assert!(runner.comment().contains("nothing to change"), "{}", runner.comment());

    // A valid change and a removal, then an invalid role.
    runner.edit("overlays/production/accounts/kustomization.yaml", "203.0.113.9", "203.0.113.10");
    runner.edit("base/accounts/kustomization.yaml", "  - kestrel-billing.yaml\n", "");
    runner.edit("overlays/production/accounts/kustomization.yaml", "|kestrel-billing", "");
    for step in runner.github("plan").await {
        step.succeeded();
    }
    let comment = runner.comment();
    assert!(comment.contains("203.0.113.9/32") && comment.contains("203.0.113.10/32"), "{comment}");
    assert!(comment.contains(&format!("- {}/kestrel-billing", runner.scene.namespace.name())), "{comment}");
    runner.edit("base/accounts/halden-app.yaml", "roles: [Customer]", "roles: [Custommer]");
    let validated = runner.github("validate").await;
    let place = "::error file=base/accounts/halden-app.yaml,line=10,col=11,";
    assert!(validated[0].stdout.starts_with(place) && !validated[0].status.success(), "{validated:?}");

    // A refused account fails the plan, and the comment is still written.
    runner.edit("base/accounts/halden-app.yaml", "roles: [Custommer]", "affiliate: Nobody");
    let planned = runner.github("plan").await;
    assert!(!planned[0].status.success() && planned[1].status.success(), "{planned:?}");
    assert!(runner.comment().contains("UnknownAffiliate"), "{}", runner.comment());
    runner.end().await;
}

#[tokio::test]
async fn gitlab_comments_on_problems_and_changes_of_a_merge_request() {
    let runner = Runner::new("checks-gitlab").await;
    runner.gitlab("validate").await.succeeded();
    runner.gitlab("plan").await.succeeded();
    assert!(runner.comment().contains("nothing to change"), "{}", runner.comment());
    runner.edit("overlays/staging/accounts/sandbox.yaml", "203.0.113.128/28", "203.0.113.129/28");
    let validated = runner.gitlab("validate").await;
    assert!(!validated.status.success() && validated.stderr.contains("sandbox.yaml:11:7"), "{validated:?}");
    let pipeline = documents(".gitlab-ci.yml").remove(0);
    let report = runner.shell.path(text(&pipeline["validate"]["artifacts"]["reports"]["junit"]));
    let report = fs::read_to_string(report).expect("the merge request gets a report");
    let report = roxmltree::Document::parse(&report).expect("it is XML");
    let failed: Vec<_> = report.descendants().filter(|node| node.has_tag_name("failure")).collect();
    let file = failed[0].parent().and_then(|case| case.attribute("file"));
    assert_eq!((failed.len(), file), (1, Some("overlays/staging/accounts/sandbox.yaml")));
    runner.edit("base/accounts/halden-app.yaml", "roles: [Customer]", "affiliate: Nobody");
    let planned = runner.gitlab("plan").await;
    assert!(!planned.status.success() && runner.comment().contains("UnknownAffiliate"), "{planned:?}");
    runner.end().await;
}

#[test]
fn forks_get_no_secrets() {
    let workflow = documents(".github/workflows/api-accounts.yaml").remove(0);
    assert!(
        workflow["on"]["pull_request"].is_object(),
        "never pull_request_target, which hands secrets to anybody's code"
    );
    let own = "github.event.pull_request.head.repo.full_name == github.repository";
    for (name, job) in workflow["jobs"].as_object().expect("jobs") {
        assert!(!job.to_string().contains("secrets.") || job["if"] == own, "{name}");
    }
    let pipeline = documents(".gitlab-ci.yml").remove(0);
    assert_eq!(pipeline["plan"]["rules"][0]["if"], "$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_PROJECT_ID");
    let validate: &Value = &pipeline["validate"];
    assert!(!validate.to_string().contains("READER"), "{validate}");
}
