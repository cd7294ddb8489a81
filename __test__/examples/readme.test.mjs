// Every block of code in the README is a program that works and prints what it says.
import assert from "node:assert/strict"
import { after, test } from "node:test"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import typescript from "typescript"
import Mutex from "../../index.mjs"
import { startChild } from "../support/children.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { servers } from "../support/servers.mjs"
import { runs } from "./prints.mjs"

watchLeaks()

const root = fileURLToPath(new URL("../../", import.meta.url))
const PAGES = [ "README.md", "docs/README.md", "docs/migration.md", "docs/architecture.md", "docs/advisory-lock.md", "docs/command-line.md",
    "examples/README.md" ]
const page = (path) => readFileSync(join(root, path), "utf8")

const place = mkdtempSync(join(tmpdir(), "ipc-mutex-readme-"))
after(() => rmSync(place, { recursive: true, force: true }))
mkdirSync(join(place, "node_modules"))
symlinkSync(root, join(place, "node_modules", "ipc-mutex"), "junction")

const running = Object.fromEntries(await Promise.all(Object.keys(servers).map(async (name) => [ name, await servers[name](after) ])))

/** The blocks of a page in one of `languages`, each with the line it begins in. */
function blocks (path, languages) {
    const text = page(path)
    return [ ...text.matchAll(/^```(\w+)\n([^]*?)^```$/gm) ]
        .filter(([ , language ]) => languages.includes(language))
        .map(({ 1: language, 2: code, index }) => ({ language, code, line: text.slice(0, index).split("\n").length }))
}

/** With the private servers' URLs in place of those of servers that the reader has. */
function withServers (code) {
    return code.replace(/rpm\+(redis|pgsql|consul|etcd):\/\/[^"\s]+/g, (url, name) => {
        const { pathname, searchParams } = new URL(url)
        // so that no machine is too slow
        return running[name].url(pathname.split("/").at(-1), { ttl: 30, connect_timeout: 30, ...Object.fromEntries(searchParams) })
    })
}

function javascript ({ language, code }) {
    if (language === "js")
        return code
    const { ES2022, ESNext } = typescript.ScriptTarget
    return typescript.transpileModule(code, { compilerOptions: { target: ES2022, module: ESNext }, fileName: "block.mts" }).outputText
}

for (const path of [ "README.md", "docs/migration.md" ])
    for (const block of blocks(path, [ "js", "ts" ]))
        test(`${path}, line ${block.line}: the block runs`, async (t) => {
            const file = join(place, `${path.replaceAll(/\W/g, "-")}-${block.line}.${/\brequire\(/.test(block.code.replace(/\/\/.*/g, "")) ? "cjs" : "mjs"}`)
            writeFileSync(file, withServers(javascript(block)))
            const [ , code ] = block.code.match(/^\/\/ Exits with (\d+)$/m) ?? []
            if (code === undefined)
                return await runs(t, file, block.code)
            const child = await startChild(t, file)
            assert.deepEqual(await child.exit({ timeout: 120_000 }), { code: Number(code), signal: null })
        })

test("the README has a block for each model and feature", () => {
    assert.ok(blocks("README.md", [ "js", "ts" ]).length >= 17)
})

test("URLs in the README's plain blocks are accepted", () => {
    const urls = blocks("README.md", [ "text" ]).flatMap(({ code }) => code.match(/^[a-z+]+:[^<\s]*$/gm) ?? [])
    assert.ok(urls.length >= 3)
    for (const url of urls)
        new Mutex(url)
})

test("the README has every error code of the typings, and no other", () => {
    const codes = (text) => [ ...new Set(text.match(/^ {4}.*"ERR_\w+"$|^\| `ERR_\w+`/gm).map((line) => line.match(/ERR_\w+/)[0])) ].sort()
    assert.deepEqual(codes(page("README.md")), codes(page("index.d.ts")))
})

test("the README has every parameter that a URL may have", () => {
    const [ , known ] = page("src/url/query.rs").match(/^fn is_known[^]*?\{([^]*?)^\}/m)
    for (const [ , name ] of known.matchAll(/"(\w+)"/g))
        assert.match(page("README.md"), new RegExp("`([^`]*&)?" + name + "[`=]"), name)
})

/** What GitHub makes of a heading. */
const anchor = (heading) => heading.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").trim().replace(/\s/g, "-")

for (const path of PAGES)
    test(`${path}: every link leads somewhere`, () => {
        const text = page(path).replace(/^```[^]*?^```$/gm, "")
        for (const [ , target ] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
            if (/^https?:/.test(target))
                continue
            const [ file, fragment ] = target.split("#")
            const to = file === "" ? path : join(dirname(path), file)
            assert.ok(existsSync(join(root, to)), `${target} does not exist`)
            if (fragment !== undefined) {
                const anchors = [ ...page(to).matchAll(/^#+ (.*)$/gm) ].map(([ , heading ]) => anchor(heading))
                assert.ok(anchors.includes(fragment), `${to} has no heading for #${fragment}, only ${anchors.join(", ")}`)
            }
        }
    })
