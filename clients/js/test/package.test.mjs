// The package as its users get it: its size, its types, and what is in it, in an empty project.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { transform } from "esbuild";

const HERE = fileURLToPath(new URL("..", import.meta.url));
const run = promisify(execFile);
let project;

before(async () => {
  project = await mkdtemp(join(tmpdir(), "umbel-project-"));
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", project], { cwd: HERE });
  const [{ filename }] = JSON.parse(stdout.slice(stdout.indexOf("[")));
  await writeFile(join(project, "package.json"), '{ "private": true, "type": "module" }');
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", `./${filename}`], { cwd: project });
});
after(() => rm(project, { recursive: true, force: true }));

const bytes = async (name) => {
  const { code } = await transform(await readFile(join(HERE, name), "utf8"), { minify: true, format: "esm", target: "es2022" });
  return gzipSync(code, { level: 9 }).length;
};

test("the client and the hooks stay small", async (t) => {
  const files = ["umbel.js", "stream.js", "state.js", "presence.js", "react.js"];
  const [client, stream, state, presence, hooks] = await Promise.all(files.map(bytes));
  const served = gzipSync(await readFile(join(HERE, "umbel.js")), { level: 9 }).length;
  t.diagnostic(`minified and gzipped: ${client} bytes, streams ${stream}, states ${state}, presence ${presence}, hooks ${hooks}; as served, gzipped: ${served}`);
  assert.ok(client < CLIENT, `${client} bytes`);
  assert.ok(stream < 2048, `${stream} bytes`);
  assert.ok(state < 3072, `${state} bytes`);
  assert.ok(presence < 1152, `${presence} bytes`);
  assert.ok(hooks < HOOKS, `${hooks} bytes`);
  assert.ok(served < SERVED, `${served} bytes`);
});

test("the client is written in the JavaScript of 2019, so that older browsers can read it and say what they lack", async () => {
  for (const name of ["umbel.js", "stream.js", "state.js", "presence.js"]) {
    const source = await readFile(join(HERE, name), "utf8");
    const [newest, ...oldest] = await Promise.all(["esnext", "chrome64", "firefox67"].map((target) => transform(source, { target })));
    for (const { code, warnings } of oldest) {
      assert.deepEqual(warnings, []);
      assert.equal(code, newest.code);
    }
  }
});

test("the types name what there is", async () => {
  const types = await readFile(join(HERE, "umbel.d.ts"), "utf8");
  const named = [...types.matchAll(/^export (?:function|class) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(named.sort(), Object.keys(await import("../umbel.js")).sort());
});

test("the package has what it needs and nothing else", async () => {
  const files = await readdir(join(project, "node_modules", "umbel"), { recursive: true, withFileTypes: true });
  assert.deepEqual(files.filter((file) => file.isFile()).map(({ name }) => name).sort(), [
    "LICENSE-APACHE", "LICENSE-MIT", "README.md", "package.json", "presence.js", "react.d.ts", "react.js", "state.js", "stream.js", "umbel.d.ts", "umbel.js",
  ]);
});

test("the examples of the pages are programs", async () => {
  let count = 0;
  for (const page of ["clients/js/README.md", "docs/client-js.md", "README.md"]) {
    const text = await readFile(join(HERE, "../..", page), "utf8");
    for (const [, loader, code] of text.matchAll(/^```(jsx?|html)\n(.*?)^```/gms)) {
      const script = loader === "html" ? code.replace(/^.*<script[^>]*>|<\/script>.*$/gs, "") : code;
      await transform(script, { loader: loader === "html" ? "js" : loader, format: "esm", target: "es2022" });
      count += 1;
    }
  }
  assert.ok(count > 8, `${count} examples`);
});

test("plain Node.js can use it", async () => {
  await writeFile(join(project, "main.js"), `
    import { connect, UmbelError } from "umbel";
    class Silent { close() {} }
    const umbel = connect("https://example.org/ws", { WebSocket: Silent });
    umbel.request("a").catch((error) => console.log(error instanceof UmbelError, error.code));
    umbel.close();
  `);
  assert.equal((await run(process.execPath, ["main.js"], { cwd: project })).stdout, "true closed\n");
});

test("its types say what there is, and what there is not", async () => {
  await mkdir(join(project, "node_modules", "@types"), { recursive: true });
  await cp(join(HERE, "node_modules", "@types", "react"), join(project, "node_modules", "@types", "react"), { recursive: true });
  await symlink(join(HERE, "node_modules", "csstype"), join(project, "node_modules", "csstype"));
  const check = async (source) => {
    await writeFile(join(project, "main.ts"), source);
    const options = "--noEmit --strict --skipLibCheck --module nodenext --target es2022 --lib es2023,dom";
    return run(join(HERE, "node_modules", ".bin", "tsc"), [...options.split(" "), "main.ts"], { cwd: project })
      .then(() => "", ({ stdout }) => stdout);
  };
  assert.equal(await check(`
    import { connect, type Gap, type Update } from "umbel";
    import { useChannel, useLatest, usePresence, useSharedState, useTyping } from "umbel/react";
    const umbel = connect(undefined, { token: async () => "t", cap: 1000 });
    export async function follow(): Promise<void> {
      for await (const update of umbel.subscribe("a", { position: { epoch: "e", offset: 1 } })) {
        if (update.gap) {
          const gap: Gap = update.gap;
          continue;
        }
        const number: number = update.offset;
      }
      for await (const text of umbel.run("ask")) text.toUpperCase();
      const { offset } = await umbel.publish("a", 1);
      offset.toFixed();
      const board = await umbel.state<{ title: string }>("board:7", { onChange: (map, keys) => keys.map((key) => map.get(key)?.title.length) });
      const changed = await board.update("t1", (task) => ({ title: task?.title ?? "new" }));
      const room = await umbel.presence("room:1", { onChange: (members, joined) => joined.map(({ subject }) => [subject, members.count]) });
      await room.update({ currentTask: "t1", data: null });
      const tasks = [...room.values()].map(({ currentTask }) => currentTask);
      const titles: string[] = [...board].map(([key, task]) => key + task.title + changed.offset);
    }
    export function Component(): number {
      const { data } = useChannel("a", { initial: 0, reduce: (sum: number, updates: Update[]) => sum + updates.length });
      const prices: ReadonlyMap<string, { id: string }> = useLatest("b", (price: { id: string }) => price.id);
      const board = useSharedState<number>("board:7");
      const adding: Promise<{ offset: number }> = board.update("n", (n = 0) => n + 1);
      const { members, count } = usePresence("room:1");
      const [typing, type] = useTyping("room:1");
      type();
      return data + prices.size + count + members.size + typing.length + (board.data.get("n") ?? 0);
    }
  `), "");
  assert.match(await check('import { connect } from "umbel"; connect(1);'), /not assignable/);
});

test("Vite builds a page with it", async () => {
  for (const name of ["react", "react-dom", "scheduler"]) {
    await symlink(join(HERE, "node_modules", name), join(project, "node_modules", name));
  }
  await writeFile(join(project, "index.html"), '<script type="module" src="/page.js"></script>');
  await writeFile(join(project, "page.js"), `
    import { createElement } from "react";
    import { createRoot } from "react-dom/client";
    import { UmbelProvider, useConnection } from "umbel/react";
    const State = () => useConnection().state;
    createRoot(document.body).render(createElement(UmbelProvider, null, createElement(State)));
  `);
  await run(process.execPath, [join(HERE, "node_modules", "vite", "bin", "vite.js"), "build"], { cwd: project });
  const assets = join(project, "dist", "assets");
  const [page, ...later] = (await readdir(assets)).sort();
  assert.match(await readFile(join(assets, page), "utf8"), /umbel\.v1\.first/);
  const texts = await Promise.all(later.map((name) => readFile(join(assets, name), "utf8")));
  for (const [index, word] of [/\$presence:/, /ifVersion/, /Umbel-Session/].entries()) {
    assert.match(texts[index], word, "what is loaded when it is needed is a file of its own");
  }
});

/** Bytes that may not be exceeded without a reason. */
const CLIENT = 8800;
const HOOKS = 2150;
const SERVED = 15_300;
