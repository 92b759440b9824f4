#!/usr/bin/env node
// Starts the program that npm has installed for this platform.
"use strict";
const { spawn } = require("node:child_process");

const name = `seaway-${process.platform}-${process.arch}`;
let program;
try {
  program = require.resolve(`${name}/bin/seaway`);
} catch {
  console.error(
    `seaway: the package ${name} is not installed. There are packages for Linux and macOS on x64 and arm64; ` +
      "if this is one of them, npm was told to leave optional dependencies out (--omit=optional): install again without that.",
  );
  process.exit(1);
}
const words = process.argv.slice(2);
if (typeof process.execve === "function") {
  // Where Node can become another program, nothing stands between it and its terminal.
  process.removeAllListeners("warning");
  process.on("warning", () => {});
  process.execve(program, [program, ...words], process.env);
}
const child = spawn(program, words, { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2"]) {
  // A Ctrl-C reaches both: told of it twice, the gateway would not wait for the answers that are under way.
  const reachesBoth = signal === "SIGINT" && process.stdin.isTTY;
  process.on(signal, () => reachesBoth || child.kill(signal));
}
child.on("error", (error) => {
  console.error(`seaway: ${program} cannot be started: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => {
  if (signal) {
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  } else {
    process.exit(code);
  }
});
