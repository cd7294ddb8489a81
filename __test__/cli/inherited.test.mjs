// What a command gets from the program that starts `ipc-mutex exec`, and what that gets back: the same as with flock(1).
import { after, describe, test } from "node:test"
import assert from "node:assert/strict"
import { spawn, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, redis } from "../support/servers.mjs"
import { PATIENT, run } from "./programs.mjs"

const skip = process.platform === "linux" ? false : "other systems do not tell which files a process was started with"

watchLeaks()
const server = await redis(after, { password: true })
let count = 0
const freshUrl = () => server.url(`inherited-${++count}`, PATIENT)
const program = fileURLToPath(new URL("../../bin/ipc-mutex.js", import.meta.url))

/** Scripts for bash, in which RUN runs a command. */
const SCRIPTS = {
    "a process substitution": "RUN cat <(echo hi)",
    "a file for output": "exec 3>three; RUN sh -c 'echo three >&3'; cat three",
    "a here string": "RUN sh -c 'cat <&3' 3<<<secret",
    "files with gaps between them": "exec 5</dev/null 9</etc 30</dev/zero; RUN sh -c 'for n in 5 9 30; do readlink /proc/self/fd/$n; done'",
    "nothing that its parent opened for itself": "RUN sh -c 'ls -l /proc/self/fd | grep -c -e socket: -e anon_inode:'",
    "standard streams as they are": "RUN sh -c 'grep flags /proc/self/fdinfo/[012]' </dev/null 2>err | cat",
    "no standard input": "RUN sh -c 'echo ok; read x || echo none' <&-",
    "a closed pipe": "RUN yes | head -1; echo ${PIPESTATUS[0]}",
    "an ignored SIGHUP, by nohup": "nohup RUN sh -c 'kill -HUP $$; echo survived'; true",
    "ignored signals, by a script": "trap '' INT TERM; RUN sh -c 'kill -INT $$; kill -TERM $$; echo survived'; true",
    "signals that are not ignored": "RUN sh -c 'kill -HUP $$; echo survived'; echo $?",
    "a real-time signal": "RUN sh -c 'kill -34 $$'; echo $?",
    "a signal with a core": "ulimit -c 0; RUN sh -c 'kill -SEGV $$'; echo $?",
    "the signal that nobody survives": "RUN sh -c 'kill -KILL $$'; echo $?",
    "a stop of its own": "RUN sh -c '(sleep 0.2; kill -CONT $$) & kill -STOP $$; echo back'",
    "umask and limits": "umask 077; ulimit -n 200; RUN sh -c 'umask; ulimit -n'",
    "strange arguments": "RUN printf '[%s]' 'a\nb' \"c'd\\\"e\" '' '*' '$HOME' --x --"
}

/** The output and the exit code of a script. */
async function outcome (t, script, command) {
    const cwd = mkdtempSync(join(tmpdir(), "ipc-mutex-inherited-"))
    t.after(() => rmSync(cwd, { recursive: true }))
    const child = spawn("bash", [ "-c", script.replaceAll("RUN", command) ], { cwd, stdio: [ "ignore", "pipe", "ignore" ] })
    let stdout = ""
    child.stdout.setEncoding("utf8").on("data", (text) => { stdout += text })
    const code = await new Promise((resolve) => child.once("close", resolve))
    return { code, stdout }
}

describe("a command gets, as from flock,", { skip }, () => {
    for (const [ name, script ] of Object.entries(SCRIPTS))
        test(name, async (t) => {
            const ours = await outcome(t, script, `${process.execPath} ${program} exec ${freshUrl().replaceAll("&", "\\&")} --`)
            assert.notEqual(ours.stdout, "")
            assert.deepEqual(ours, await outcome(t, script, "flock lock"))
        })

    test("the pipe of make, by which its jobs share the processors", { skip: spawnSync("make", [ "-v" ]).status !== 0 }, async (t) => {
        const job = "RUN sh -c \"[ -p /proc/self/fd/3 ] && [ -p /proc/self/fd/4 ] && echo pool\""
        const script = `printf 'all: a\\na:\\n\\t+@${job}\\n' >make; make -s -j2 -f make`
        const ours = await outcome(t, script, `${process.execPath} ${program} exec ${freshUrl().replaceAll("&", "\\&")} --`)
        assert.deepEqual(ours, { code: 0, stdout: "pool\n" })
        assert.deepEqual(ours, await outcome(t, script, "flock lock"))
    })
})

const namespace = [ "unshare", "--pid", "--fork", "--kill-child", "--mount-proc" ]
const noNamespace = skip || (spawnSync(namespace[0], [ ...namespace.slice(1), "true" ]).status !== 0 && "needs the right to make a namespace")

describe("as the first process of a container", { skip: noNamespace }, () => {
    test("it exits with 128 and the number of the signal", async (t) => {
        const { code, signal } = await run(t, "ipc-mutex", [ "exec", freshUrl(), "--", "sh", "-c", "kill -TERM $$" ], { by: namespace })
        assert.deepEqual({ code, signal }, { code: 143, signal: null })
    })

    test("it reaps orphans", async (t) => {
        // The last process in the chain is an orphan when the two before it have ended.
        const orphan = "read pid </proc/self/stat; echo ${pid%% *} >&3"
        const code = `exec 3>pid; (sh -c '${orphan}' 3>&3 & ) ; exec 3>&-; until [ -s pid ]; do sleep 0.05; done; ` +
            "while [ -d /proc/$(cat pid) ]; do sleep 0.05; done; echo reaped"
        const cwd = mkdtempSync(join(tmpdir(), "ipc-mutex-inherited-"))
        t.after(() => rmSync(cwd, { recursive: true }))
        const { code: result, stdout } = await run(t, "ipc-mutex", [ "exec", freshUrl(), "--", "sh", "-c", code ], { by: namespace, cwd })
        assert.deepEqual({ code: result, stdout }, { code: 0, stdout: "reaped\n" })
    })
})

test("nothing is left at the server", async () => {
    await noLeftovers(server, { timeout: 18_000 })
})
