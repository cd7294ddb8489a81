// The shape of the code, read from its text: who may use whom, and how long a file may be.
import { test } from "node:test"
import assert from "node:assert/strict"
import { existsSync, readFileSync, readdirSync } from "node:fs"
import { dirname, join, posix } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const MAX_LINES = 400

/** Files below `folder` that end in `ending`, as paths from the top with slashes. */
function files (folder, ending) {
    if (!existsSync(join(root, folder)))
        return []
    return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
        const path = posix.join(folder, entry.name)
        return entry.isDirectory() ? files(path, ending) : path.endsWith(ending) ? [ path ] : []
    })
}

const read = (path) => readFileSync(join(root, path), "utf8")
const isTest = (path) => /(^|\/)tests?(\.rs$|\/)/.test(path)

/** A file without the unit tests at its end. */
const withoutTests = (path) => read(path).split(/^#\[cfg\(test\)\]\nmod \w+ \{/m)[0]

/** Rust code without comments and unit tests. */
const code = (path) => withoutTests(path).replace(/\/\/.*$/gm, "")

/** The paths that follow `head` (`crate` or `super`), two names deep: `crate::{a, b::{c, d}}` gives a, b::c and b::d. */
function paths (text, head) {
    const found = new Set()
    for (const { index } of text.matchAll(new RegExp(`\\b${head}::`, "g")))
        for (const path of expand(text.slice(index + head.length + 2)))
            found.add(path.split("::").slice(0, 2).join("::"))
    return [ ...found ]
}

/** The paths at the beginning of `text`, with their braces multiplied out. */
function expand (text) {
    if (!text.startsWith("{")) {
        const name = text.match(/^\w+/)?.[0]
        if (name === undefined)
            return []
        const rest = text.slice(name.length)
        const below = rest.startsWith("::") ? expand(rest.slice(2)) : []
        return below.length > 0 ? below.map((path) => `${name}::${path}`) : [ name ]
    }
    const parts = []
    let depth = 0, from = 1
    for (let at = 0; at < text.length; at++) {
        const char = text[at]
        if (char === "{")
            depth++
        if (char === "}")
            depth--
        if (depth === 0 || (depth === 1 && char === ",")) {
            parts.push(text.slice(from, at).trim())
            from = at + 1
        }
        if (depth === 0)
            break
    }
    return parts.filter(Boolean).flatMap(expand)
}

/** `src/backend/redis/wait.rs` belongs to module `backend`. */
const moduleOf = (path) => path.split("/")[1].replace(/\.rs$/, "")

/** Module -> the modules that it may use besides itself. */
const ARROWS = {
    error: [],
    secret: [],
    core: [ "error" ],
    clock: [ "core" ],
    credentials: [ "secret", "error" ],
    options: [ "credentials", "secret", "error" ],
    url: [ "options", "secret", "error" ],
    local: [ "core", "clock", "secret", "error" ],
    backend: [ "core", "options", "url", "error", "clock", "secret" ],
    runtime: [ "backend", "core", "options", "url", "error", "clock", "secret" ],
    shared_table: [ "core", "clock", "error" ],
    lock_file: [ "error" ],
    binding: [ "local", "shared_table", "lock_file", "runtime", "core", "options", "url", "error", "clock", "secret" ],
    lib: []
}
/** Those who hold the runtime's end of the trait need its types; the servers' own modules are nobody's business. */
const TRAIT = "backend"

const rust = files("src", ".rs").filter((path) => !isTest(path))

test("every Rust module uses only the modules that its arrows lead to", () => {
    assert.ok(rust.length > 10)
    const wrong = []
    for (const path of rust) {
        const module = moduleOf(path)
        assert.ok(ARROWS[module], `${path}: the module ${module} has no place in the architecture`)
        for (const used of paths(code(path), "crate").map((name) => name.split("::")[0]))
            if (used !== module && ARROWS[used] && !ARROWS[module].includes(used))
                wrong.push(`${path}: ${module} -> ${used}`)
    }
    assert.deepEqual(wrong, [])
})

/** What stands beside the servers in `src/backend` and serves all of them. */
const SHARED_BACKEND = [ "mod", "tls" ]
const servers = [ "redis", "pgsql", "consul", "etcd" ]

test("no server's module uses another server's, and nobody outside of backend names one", () => {
    const wrong = []
    for (const path of rust) {
        const own = moduleOf(path) === TRAIT ? path.split("/")[2].replace(/\.rs$/, "") : undefined
        if (SHARED_BACKEND.includes(own))
            continue
        const text = code(path)
        const named = paths(text, "crate").filter((name) => name.startsWith("backend::")).map((name) => name.split("::")[1])
        const beside = own !== undefined && path.split("/").length === 3 ? paths(text, "super").map((name) => name.split("::")[0]) : []
        for (const used of [ ...named, ...beside ])
            if (servers.includes(used) && used !== own)
                wrong.push(`${path} -> backend::${used}`)
    }
    assert.deepEqual(wrong, [])
})

test("core knows no clock, no randomness, no environment and nothing asynchronous", () => {
    const forbidden = /\b(tokio|napi|getrandom|futures|async|await|Instant|SystemTime|std::env|std::thread|std::io|std::net|std::fs)\b/
    for (const path of rust.filter((file) => moduleOf(file) === "core"))
        assert.doesNotMatch(code(path), forbidden, path)
})

test("Node.js is known to the binding only, and unsafe code stays there, at the clock, and where a lock table meets the system", () => {
    for (const path of rust.filter((file) => moduleOf(file) !== "binding")) {
        assert.doesNotMatch(code(path), /\bnapi\w*::/, path)
        if (moduleOf(path) !== "clock" && path !== "src/shared_table/system.rs")
            assert.doesNotMatch(code(path), /\bunsafe\b/, path)
    }
})

const javascript = [ "index.js", ...files("lib", ".js"), ...files("bin", ".js") ]

/** The files that `path` requires, as paths from the top; built-in modules with their prefix. */
function required (path) {
    return [ ...read(path).matchAll(/\b(?:require|import)\(\s*["'`]([^"'`$]+)["'`]\s*\)/g) ].map(([ , name ]) => {
        if (!name.startsWith("."))
            return name
        const target = posix.join(posix.dirname(path), name)
        if (existsSync(join(root, target, "index.js")))
            return `${target}/index.js`
        return existsSync(join(root, `${target}.js`)) ? `${target}.js` : target
    })
}

test("the package requires nothing but Node.js and itself", () => {
    for (const path of javascript)
        for (const name of required(path))
            assert.ok(name.startsWith("node:") || /^(index\.js|package\.json|lib\/|bin\/)/.test(name), `${path} requires ${name}`)
    const { dependencies = {}, scripts = {} } = JSON.parse(read("package.json"))
    assert.deepEqual(dependencies, {})
    for (const script of [ "preinstall", "install", "postinstall", "prepare" ])
        assert.equal(scripts[script], undefined, script)
})

const NATIVE_COMMANDS = [ "lib/cli/command-unix.js", "lib/cli/program.js" ]

test("adapters and commands stand on the package's public surface only", () => {
    for (const path of javascript) {
        for (const name of required(path).filter((target) => !target.startsWith("node:"))) {
            // Half of this API is synchronous, which the public surface is not.
            if (name === "lib/lock-file.js" && path.startsWith("lib/adapters/proper-lockfile/"))
                continue
            else if (path.startsWith("lib/adapters/"))
                assert.match(name, /^(index\.js|package\.json|lib\/adapters\/.*)$/, `${path} requires ${name}`)
            // To start a command in a process group of its own, and to die of a signal, takes more than Node.js can.
            else if (name === "lib/native.js" && NATIVE_COMMANDS.includes(path))
                continue
            else if (path.startsWith("lib/cli/"))
                assert.match(name, /^(index\.js|package\.json|lib\/adapters\/[^/]+\/index\.js|lib\/cli\/.*)$/, `${path} requires ${name}`)
            else if (path.startsWith("bin/"))
                assert.match(name, /^lib\/cli\//, `${path} requires ${name}`)
            else
                assert.doesNotMatch(name, /^(index\.js|bin\/|lib\/(adapters|cli)\/)/, `${path} requires ${name}`)
        }
    }
})

test("no source file is longer than a reader can keep in mind", () => {
    const all = [ ...rust, ...files("src", ".lua"), ...javascript, ...files("scripts", ".mjs"), "index.mjs" ]
    const long = all.map((path) => ({ path, lines: withoutTests(path).split("\n").length - 1 })).filter(({ lines }) => lines > MAX_LINES)
    assert.deepEqual(long, [])
})

test("the reader of paths sees nested and renamed imports", () => {
    assert.deepEqual(paths("use crate::{a, b::{c, d::e}, f as g};", "crate"), [ "a", "b::c", "b::d", "f" ])
    assert.deepEqual(paths("use crate::url::Scheme; fn f() -> crate::error::Result<()> {}", "crate"), [ "url::Scheme", "error::Result" ])
    assert.deepEqual(paths("use super::super::x;", "super"), [ "super::x", "x" ])
})
