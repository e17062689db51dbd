//! Tools of MCP servers: the question before a call, results in the conversation, the panel, and real servers.

use std::collections::BTreeMap;

use serde_json::{Map, json};

use super::*;

/// Scripted servers: the test reads the window's commands and sends events.
#[derive(Clone, Default)]
struct Servers(Rc<RefCell<ServerEnds>>);

#[derive(Default)]
struct ServerEnds {
    commands: Vec<ToolCommand>,
    events: Option<mpsc::Sender<ToolEvent>>,
}

impl Servers {
    fn link(&self) -> Link<ToolCommand, ToolEvent> {
        let (sender, events) = mpsc::channel();
        self.0.borrow_mut().events = Some(sender);
        let ends = self.0.clone();
        Link::new(move |command| ends.borrow_mut().commands.push(command), events)
    }

    fn send(&self, event: ToolEvent) {
        self.0.borrow().events.as_ref().expect("servers").send(event).expect("a window");
    }

    fn commands(&self) -> Vec<ToolCommand> {
        std::mem::take(&mut self.0.borrow_mut().commands)
    }

    /// The number, tool and arguments of the call that the window makes.
    fn called(&self) -> (u64, String, Map<String, Value>) {
        let call = self.commands().into_iter().find_map(|command| match command {
            ToolCommand::Call(id, _, tool, arguments) => Some((id, tool, arguments)),
            _ => None,
        });
        call.expect("a call")
    }
}

fn tool(name: &str) -> McpTool {
    let parameters = json!({ "type": "object", "properties": { "query": { "type": "string" } } });
    let parameters = parameters.as_object().cloned().unwrap_or_default();
    McpTool { name: name.into(), description: format!("The tool {name}"), parameters }
}

/// A window with a server that is switched on and has two tools.
fn with_tools(dark: bool) -> (Window, Servers) {
    let mut window = window(1100.0, 740.0, dark);
    let servers = Servers::default();
    window.harness.state_mut().set_tools(servers.link());
    window.click("Tools");
    window.harness.state_mut().state.tools.form.text = "uvx mcp-server-notes --folder /home/me/notes".into();
    window.steps(1);
    window.click("Add");
    window.click("notes");
    let [ToolCommand::Start(name, server)] = &servers.commands()[..] else { panic!("no start") };
    assert_eq!((name.as_str(), server.command.as_str(), server.args.len()), ("notes", "uvx", 3));
    servers.send(ToolEvent::Server("notes".into(), ServerState::Ready(vec![tool("search"), tool("read")])));
    window.steps(2);
    window.shows("2 tools");
    window.harness.state_mut().state.panel = None;
    window.steps(2);
    (window, servers)
}

impl Script {
    /// An answer that ends with a call.
    fn call(&self, id: u64, text: &str, name: &str, arguments: &str) {
        self.words(id, text);
        let events = [
            AnswerEvent::ToolCall { id: format!("call{id:05}"), name: name.into() },
            AnswerEvent::Arguments(arguments.into()),
            AnswerEvent::ToolCallEnd { complete: true },
        ];
        events.into_iter().for_each(|event| self.send(EngineEvent::Answer(id, event, 0.5)));
        self.finish(id, FinishReason::End, 12);
    }
}

#[test]
fn a_call_is_confirmed_and_the_answer_goes_on_with_its_result() {
    let (mut window, servers) = with_tools(true);
    let ask = window.say("What did I note about owls?");
    let names: Vec<_> = ask.tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["search", "read"]);
    window.script.call(ask.id, "I look it up. ", "search", r#"{"query": "owls", "limit": 3}"#);
    window.steps(6);
    assert!(servers.commands().is_empty(), "it ran without a question");
    for text in ["Run “search”?", "notes", "owls", "limit", "waits for your answer"] {
        window.shows(text);
    }
    window.click("Run once");
    let (id, called, arguments) = servers.called();
    assert_eq!((called.as_str(), Value::from(arguments)), ("search", json!({ "query": "owls", "limit": 3 })));
    window.shows("search · running…");
    servers.send(ToolEvent::Returned(id, Ok("Owls hunt at night.".into())));
    window.steps(2);
    let ask = window.script.asked();
    let roles: Vec<_> = ask.messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
    assert_eq!(
        roles,
        [("user", "What did I note about owls?"), ("assistant", "I look it up. "), ("tool", "Owls hunt at night.")]
    );
    assert_eq!(ask.messages[1].tool_calls[0].id, ask.messages[2].tool_call_id.clone().expect("an id"));

    // The next call of the same tool asks again; refusing it tells the model.
    window.script.call(ask.id, "", "search", "{}");
    window.steps(6);
    window.shows("Without arguments.");
    window.click("Refuse");
    let ask = window.script.asked();
    assert_eq!(ask.messages.last().expect("one").content, "The user refused this call.");

    // Once allowed, it runs without a question, in this conversation only.
    window.script.call(ask.id, "", "search", r#"{"query": "a"}"#);
    window.steps(6);
    window.click("Always in this conversation");
    servers.send(ToolEvent::Returned(servers.called().0, Err("The index is gone.".into())));
    window.steps(2);
    let ask = window.script.asked();
    assert_eq!(ask.messages.last().expect("one").content, "The index is gone.");
    window.script.call(ask.id, "", "search", r#"{"query": "b"}"#);
    window.steps(6);
    servers.send(ToolEvent::Returned(servers.called().0, Ok("Nothing.".into())));
    window.steps(2);
    let ask = window.script.asked();
    window.script.words(ask.id, "You noted that owls hunt at night.");
    window.script.finish(ask.id, FinishReason::End, 8);
    window.steps(2);
    assert_eq!(window.texts().len(), 6);
    assert!(!window.harness.state().state.busy_here());
    // Results can be unfolded, and are saved.
    window.harness.get_all_by_label_contains("search · ran").next().expect("a call").click();
    window.steps(20);
    window.shows("Owls hunt at night.");
    let saved = window.conversation().clone();
    window.click("New conversation");
    let ask = window.say("And foxes?");
    window.script.call(ask.id, "", "search", "{}");
    window.steps(6);
    window.shows("Run “search”?");
    let Window { harness, folder, .. } = window;
    drop(harness);
    let again = self::harness(900.0, 700.0, true, folder.path(), &Script::default());
    let state = &again.state().state;
    let kept = state.conversations.iter().find(|c| c.id == saved.id).expect("the conversation");
    assert_eq!(kept.nodes, saved.nodes);
    assert_eq!(kept.allowed_tools, [("notes".to_string(), "search".to_string())]);
    assert!(state.tools.config.mcp_servers["notes"].enabled);
}

#[test]
fn calls_can_be_stopped_and_do_not_go_on_forever() {
    let (mut window, servers) = with_tools(true);
    let ask = window.say("Search");
    window.script.call(ask.id, "", "search", "{}");
    window.steps(2);
    window.click("Run once");
    let (id, ..) = servers.called();
    window.harness.key_press(egui::Key::Escape);
    window.steps(2);
    assert_eq!(servers.commands(), [ToolCommand::Cancel(id)]);
    assert!(!window.harness.state().state.busy_here());
    // A result that comes too late changes nothing.
    servers.send(ToolEvent::Returned(id, Ok("late".into())));
    window.steps(2);
    assert!(window.script.commands().is_empty());
    let call = &window.conversation().nodes[1].calls[0];
    assert!(call.failed && call.result.as_deref() == Some("The user stopped before this ran."), "{call:?}");

    // What is not a call of a known tool is answered without a question.
    window.click("Continue");
    let mut ask = window.script.asked();
    for (name, arguments, why) in
        [("delete", "{}", "no tool of the name delete"), ("search", r#"{"query"#, "not a JSON object")]
    {
        window.script.call(ask.id, "", name, arguments);
        window.steps(2);
        ask = window.script.asked();
        let told = &ask.messages.last().expect("one").content;
        assert!(told.contains(why), "{told}");
    }
    // After ten answers with calls in a row, the user decides.
    for _ in 3..9 {
        window.script.call(ask.id, "", "nothing", "{}");
        window.steps(2);
        ask = window.script.asked();
    }
    window.script.call(ask.id, "", "nothing", "{}");
    window.steps(2);
    window.shows("called tools 10 times in a row");
    assert!(!window.harness.state().state.busy_here());
    window.harness.get_all_by_label("Continue").last().expect("a button").click();
    window.steps(2);
    window.script.asked();
}

#[test]
fn servers_are_pasted_switched_and_kept_private() {
    let mut window = window(1100.0, 740.0, true);
    let servers = Servers::default();
    window.harness.state_mut().set_tools(servers.link());
    window.click("Tools");
    let pasted =
        r#"{"mcpServers": {"web": {"url": "https://example.org/mcp", "headers": {"Authorization": "Bearer x"}}}}"#;
    for (text, shown) in [("{\"mcpServers\": ", "This is not JSON"), (pasted, "https://example.org/mcp")] {
        window.harness.state_mut().state.tools.form.text = text.into();
        window.steps(1);
        window.click("Add");
        window.shows(shown);
    }
    assert!(servers.commands().is_empty(), "a new server is off");
    window.click("web");
    assert!(matches!(&servers.commands()[..], [ToolCommand::Start(..)]));
    window.shows("Starting…");
    servers.send(ToolEvent::Server("web".into(), ServerState::Ready(vec![tool("search"), tool("drop_table")])));
    window.steps(2);
    window.click("2 tools");
    window.steps(20);
    window.click("drop_table");
    window.shows("1 of 2 tools");
    let ask = window.say("Hi");
    assert_eq!(ask.tools.len(), 1);
    servers.send(ToolEvent::Server("web".into(), ServerState::Failed("It ended while it was in use.".into())));
    window.steps(2);
    window.shows("It ended while it was in use.");
    window.click("Try again");
    assert!(matches!(&servers.commands()[..], [ToolCommand::Start(..)]));
    // The file has the shape that other programs read, and only the user can read it.
    window.harness.state().flush();
    let path = window.folder.path().join("mcp.json");
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("a file")).expect("JSON");
    assert_eq!(saved["mcpServers"]["web"]["headers"]["Authorization"], "Bearer x");
    assert_eq!(saved["mcpServers"]["web"]["disabledTools"], json!(["drop_table"]));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).expect("facts").permissions().mode() & 0o777, 0o600);
    }
    window.click("Edit web");
    assert!(window.harness.state().state.tools.form.text.contains("Authorization"));
    window.click("Remove web");
    assert_eq!(servers.commands(), [ToolCommand::End("web".into())]);
    assert!(window.harness.state().state.tools.config.mcp_servers.is_empty());
}

#[test]
fn conversations_without_calls_are_still_read() {
    let old = r#"{"id":"1","title":"Old","changed":5,"nodes":[{"parent":null,"role":"user","text":"Hello","time":5},
        {"parent":0,"role":"assistant","text":"Hi","time":6,"stats":{"model":"m","seed":1}}],"leaf":1}"#;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("conversation-1.json"), old).expect("a file");
    let window = harness(900.0, 700.0, true, folder.path(), &Script::default());
    let conversation = window.state().state.conversation().expect("one");
    assert_eq!((conversation.title.as_str(), conversation.nodes.len(), conversation.leaf), ("Old", 2, Some(1)));
    assert!(conversation.nodes[1].calls.is_empty() && conversation.allowed_tools.is_empty());
}

#[test]
fn the_question_looks_right_in_light_and_dark() {
    let mut results = SnapshotResults::new();
    for (name, dark) in [("chat_tools_dark", true), ("chat_tools_light", false)] {
        let (mut window, servers) = with_tools(dark);
        let ask = window.say("What did I note about owls?");
        window.script.call(ask.id, "I look it up in your notes. ", "search", r#"{"query": "owls"}"#);
        window.steps(2);
        window.click("Run once");
        servers.send(ToolEvent::Returned(servers.called().0, Ok("owls.md".into())));
        window.steps(2);
        let ask = window.script.asked();
        let arguments = r#"{"path": "/home/me/notes/owls.md", "lines": {"from": 1, "to": 40}}"#;
        window.script.call(ask.id, "There is one file. I read it. ", "read", arguments);
        window.steps(2);
        window.click("Tools");
        let more = BTreeMap::from([
            ("web".to_string(), ServerState::Starting),
            (
                "git".to_string(),
                ServerState::Failed("“uvx” was not found. Is it installed, and in a folder of PATH?".into()),
            ),
        ]);
        let tools = &mut window.harness.state_mut().state.tools;
        for name in more.keys() {
            let server =
                McpServer { command: "uvx".into(), args: vec![format!("mcp-server-{name}")], ..Default::default() };
            tools.config.mcp_servers.insert(name.clone(), McpServer { enabled: true, ..server });
        }
        tools.servers.extend(more);
        window.steps(4);
        results.add(window.harness.try_snapshot(name));
    }
}

/// Runs until a server that is being started answers. Returns its state.
fn answered(events: &Link<ToolCommand, ToolEvent>, name: &str) -> ServerState {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match events.poll() {
            Some(ToolEvent::Server(server, state)) if server == name && state != ServerState::Starting => return state,
            _ => assert!(Instant::now() < deadline, "{name} does not answer"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Calls a tool and waits for its result.
fn result(link: &Link<ToolCommand, ToolEvent>, server: &str, tool: &str, arguments: Value) -> Result<String, String> {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    link.send(ToolCommand::Call(7, server.into(), tool.into(), arguments));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match link.poll() {
            Some(ToolEvent::Returned(7, result)) => return result,
            _ => assert!(Instant::now() < deadline, "{tool} does not answer"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The official server, installed once into the build folder.
fn everything() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mcp");
    let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/mcp");
    let script = folder.join("node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    let run = |program: &str, arguments: &[&str]| {
        let status = std::process::Command::new(program).args(arguments).current_dir(&folder).status();
        status.is_ok_and(|status| status.success())
    };
    std::fs::create_dir_all(&folder).ok()?;
    let same = |name: &str| std::fs::read(wanted.join(name)).ok() == std::fs::read(folder.join(name)).ok();
    let ready = script.exists() && same("package-lock.json") || {
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(wanted.join(name), folder.join(name)).ok()?;
        }
        run("npm", &["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"])
    };
    if !ready {
        assert!(std::env::var_os("CI").is_none(), "the official server cannot be installed: npm is needed");
        eprintln!("skipped: npm cannot install the official server");
        return None;
    }
    Some(script)
}

/// Ends a process with the test.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_official_server_answers_over_stdio_and_http() {
    let Some(script) = everything() else { return };
    let script = script.display().to_string();
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let mut node = std::process::Command::new("node");
    let node = node.args([&script, "streamableHttp"]).env("PORT", free.to_string());
    let _http =
        Process(node.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("node"));

    let link = start_tools(&egui::Context::default());
    let stdio = McpServer {
        command: "node".into(),
        args: vec![script, "stdio".into()],
        env: BTreeMap::from([("FIRELIGHT_SECRET".to_string(), "hunter2".to_string())]),
        ..McpServer::default()
    };
    let http = McpServer { url: format!("http://127.0.0.1:{free}/mcp"), ..McpServer::default() };
    link.send(ToolCommand::Start("stdio".into(), stdio));
    for name in ["stdio", "http"] {
        if name == "http" {
            let deadline = Instant::now() + Duration::from_secs(30);
            while std::net::TcpStream::connect(("127.0.0.1", free)).is_err() {
                assert!(Instant::now() < deadline, "the server over HTTP does not start");
                std::thread::sleep(Duration::from_millis(20));
            }
            link.send(ToolCommand::Start("http".into(), http.clone()));
        }
        let ServerState::Ready(tools) = answered(&link, name) else { panic!("{name} does not start") };
        let names: Vec<_> = tools.iter().map(|tool| tool.name.as_str()).collect();
        assert!(names.contains(&"echo") && names.contains(&"get-sum"), "{names:?}");
        let sum = tools.iter().find(|tool| tool.name == "get-sum").expect("it");
        assert_eq!(sum.parameters["type"], "object");
        assert_eq!(result(&link, name, "get-sum", json!({ "a": 2, "b": 40 })), Ok("The sum of 2 and 40 is 42.".into()));
        let image = result(&link, name, "get-tiny-image", json!({})).expect("an image");
        assert!(image.contains("[image, image/png"), "{image}");
        let wrong = result(&link, name, "get-sum", json!({ "a": "two" })).expect_err("a refusal");
        assert!(wrong.contains('a'), "{wrong}");
        // A call that is given up does not block the next one.
        let long = json!({ "duration": 20, "steps": 2 }).as_object().cloned().unwrap_or_default();
        link.send(ToolCommand::Call(3, name.into(), "trigger-long-running-operation".into(), long));
        link.send(ToolCommand::Cancel(3));
        assert_eq!(result(&link, name, "echo", json!({ "message": "still here" })), Ok("Echo: still here".into()));
    }
    let environment = result(&link, "stdio", "get-env", json!({})).expect("variables");
    assert!(environment.contains("hunter2"), "the server's variables are not set");
    drop(link);
}
