// Every block of code in the README and the pages is a program that works and prints what it says, and every link leads somewhere.
import assert from "node:assert/strict"
import { after, test } from "node:test"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, posix } from "node:path"
import { fileURLToPath } from "node:url"
import typescript from "typescript"
import Mutex from "../../index.mjs"
import { npm } from "../../scripts/pack.mjs"
import { startChild } from "../support/children.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { servers } from "../support/servers.mjs"
import { runs } from "./prints.mjs"

watchLeaks()

const root = fileURLToPath(new URL("../../", import.meta.url))
const page = (path) => readFileSync(join(root, path), "utf8")
const PAGES = [ "README.md", ...readdirSync(join(root, "docs")).filter((file) => file.endsWith(".md")).map((file) => `docs/${file}`) ]
/** What npm packs: what a user has. */
const PACKED = JSON.parse(npm([ "pack", "--dry-run", "--json" ], root))[0].files.map(({ path }) => path)
/** Pages that only the repository has, and may link to all of it. */
const UNPACKED = [ ...PAGES.filter((path) => !PACKED.includes(path)), "CONTRIBUTING.md", "SECURITY.md" ]

const place = mkdtempSync(join(tmpdir(), "ipc-mutex-readme-"))
after(() => rmSync(place, { recursive: true, force: true }))
mkdirSync(join(place, "node_modules"))
symlinkSync(root, join(place, "node_modules", "ipc-mutex"), "junction")
for (const name of [ "@opentelemetry", "prom-client" ])
    symlinkSync(join(root, "node_modules", name), join(place, "node_modules", name), "junction")

const running = Object.fromEntries(await Promise.all(Object.keys(servers).map(async (name) => [ name, await servers[name](after) ])))

/**
 * The blocks of a page in one of `languages`, each with the line it begins in, and with a `file` where other blocks load it by that name:
 * "```js file=name".
 */
function blocks (path, languages) {
    const text = page(path)
    return [ ...text.matchAll(/^```(\w+)(?: file=(\S+))?\n([^]*?)^```$/gm) ]
        .filter(([ , language ]) => languages.includes(language))
        .map(({ 1: language, 2: file, 3: code, index }) => ({ language, file, code, line: text.slice(0, index).split("\n").length }))
}

/** With the private servers' URLs in place of those of servers that the reader has. */
function withServers (code) {
    return code.replace(/rpm\+(redis|pgsql|consul|etcd):\/\/[^"`\s]+/g, (url, name) => {
        const { pathname, searchParams } = new URL(url)
        // so that no machine is too slow
        return running[name].url(decodeURI(pathname.split("/").at(-1)), { ttl: 30, connect_timeout: 30, ...Object.fromEntries(searchParams) })
    }).replaceAll("postgres://user:password@db.example/app", () => {
        const { user, password, host, port } = running.pgsql.address()
        return `postgres://${encodeURIComponent(user)}${password === undefined ? "" : `:${encodeURIComponent(password)}`}@${host}:${port}/template1`
    })
}

function javascript ({ language, code }) {
    if (language === "js")
        return code
    const { ES2022, ESNext } = typescript.ScriptTarget
    return typescript.transpileModule(code, { compilerOptions: { target: ES2022, module: ESNext }, fileName: "block.mts" }).outputText
}

for (const path of PAGES) {
    const all = blocks(path, [ "js", "ts" ])
    for (const block of all.filter(({ file }) => file === undefined))
        test(`${path}, line ${block.line}: the block runs`, async (t) => {
            const folder = join(place, `${path.replaceAll(/\W/g, "-")}-${block.line}`)
            mkdirSync(folder)
            for (const { file, code } of all.filter((each) => each.file !== undefined))
                writeFileSync(join(folder, file), code)
            const file = join(folder, `block.${/\brequire\(/.test(block.code.replace(/\/\/.*/g, "")) ? "cjs" : "mjs"}`)
            writeFileSync(file, withServers(javascript(block)))
            const [ , code ] = block.code.match(/^\/\/ Exits with (\d+)$/m) ?? []
            if (code === undefined)
                return await runs(t, file, block.code)
            const child = await startChild(t, file)
            assert.deepEqual(await child.exit({ timeout: 120_000 }), { code: Number(code), signal: null })
        })
}

test("the README is short, and the guide has a block for each model and feature", () => {
    assert.ok(Buffer.byteLength(page("README.md")) < 10_000)
    assert.ok(blocks("docs/guide.md", [ "js", "ts" ]).length >= 15)
})

test("version 1 is a matter of the migration page", () => {
    const about = PAGES.filter((path) => PACKED.includes(path) && /\b1\.1\.2\b|\b1\.x\b/.test(page(path)))
    assert.deepEqual(about, [ "docs/migration.md" ])
})

test("URLs in plain blocks are accepted", () => {
    const urls = PAGES.flatMap((path) => blocks(path, [ "text" ])).flatMap(({ code }) => code.match(/^[a-z+]+:[^<\s]*$/gm) ?? [])
    assert.ok(urls.length >= 7)
    for (const url of urls)
        new Mutex(url)
})

test("the page of errors has every code of the typings, and no other", () => {
    const codes = (text) => [ ...new Set(text.match(/^ {4}.*"ERR_\w+"$|^\| `ERR_\w+`/gm).map((line) => line.match(/ERR_\w+/)[0])) ].sort()
    assert.deepEqual(codes(page("docs/errors.md")), codes(page("index.d.ts")))
})

test("the page of URLs has every parameter that a URL may have", () => {
    const [ , known ] = page("src/url/query.rs").match(/^fn is_known[^]*?\{([^]*?)^\}/m)
    for (const [ , name ] of known.matchAll(/"(\w+)"/g))
        assert.match(page("docs/url.md"), new RegExp("`([^`]*&)?" + name + "[`=]"), name)
})

/** What GitHub makes of a heading. */
const anchor = (heading) => heading.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").trim().replace(/\s/g, "-")

/** The anchors of a page. */
const anchors = (path) => [ ...page(path).matchAll(/^#+ (.*)$/gm) ].map(([ , heading ]) => anchor(heading))

/** What is wrong with the links of page `path`, where `has` tells which files its reader has. */
function broken (path, has) {
    const text = page(path).replace(/^```[^]*?^```$/gm, "").replace(/`[^`\n]*`/g, "")
    return [ ...text.matchAll(/\]\(([^)\s]+)\)/g) ].map(([ , target ]) => target).filter((target) => !/^https?:/.test(target)).flatMap((target) => {
        const [ file, fragment ] = target.split("#")
        const to = file === "" ? path : posix.join(posix.dirname(path), file)
        if (!has(to))
            return [ `${target} is not there` ]
        return fragment === undefined || anchors(to).includes(fragment) ? [] : [ `${to} has no heading for #${fragment}` ]
    })
}

for (const path of PACKED.filter((file) => file.endsWith(".md")))
    test(`${path}: every link leads to a file that is packed`, () => assert.deepEqual(broken(path, (file) => PACKED.includes(file)), []))

for (const path of UNPACKED)
    test(`${path}: every link leads somewhere`, () => assert.deepEqual(broken(path, (file) => existsSync(join(root, file))), []))

test("every page can be reached from the README", () => {
    const reached = new Set([ "README.md" ])
    for (const path of reached)
        for (const [ , target ] of page(path).matchAll(/\]\(([^)\s#]+\.md)/g))
            if (!/^https?:/.test(target))
                reached.add(posix.join(posix.dirname(path), target))
    assert.deepEqual(PACKED.filter((file) => file.endsWith(".md") && !reached.has(file)), [])
})
