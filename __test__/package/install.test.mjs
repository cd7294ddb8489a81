// What a user gets: both tarballs installed in an empty folder without a registry.
// time limit: 900 s
import { after, before, describe, it } from "node:test"
import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import { createRequire } from "node:module"
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { root } from "../../scripts/cargo.mjs"
import { isAccepted, refused } from "../../scripts/notices.mjs"
import { npm, pack } from "../../scripts/pack.mjs"
import { platforms } from "../../scripts/platforms.mjs"

const require = createRequire(import.meta.url)
const { PLATFORMS, platformId, platformInWords } = require("../../lib/platform.js")
const { version } = require("../../package.json")
const platformPackage = `ipc-mutex-${platformId()}`

const ROUND_TRIP = "const mutex = new Mutex(\"spm:foo\"); await mutex.open(); await mutex.acquire(); await mutex.release(); await mutex.close()"

let folder, tarballs

/** An empty project with `packages` installed from tarballs alone. */
function project (name, packages) {
    const path = join(folder, name)
    mkdirSync(path)
    writeFileSync(join(path, "package.json"), JSON.stringify({ name, version: "1.0.0", private: true }))
    npm([ "install", "--offline", "--no-audit", "--no-fund", ...packages ], path)
    return path
}

/** Runs `code` in a file of `project`; gives what it printed. */
function run (project, file, code, options = []) {
    writeFileSync(join(project, file), code)
    const env = { ...process.env }
    delete env.IPC_MUTEX_NATIVE
    return execFileSync(process.execPath, [ ...options, file ], { cwd: project, encoding: "utf8", env, stdio: [ "ignore", "pipe", "pipe" ] }).trim()
}

/** Code that prints what is wrong with loading the package. */
const PRINT_ERROR = `
try { require("ipc-mutex"); console.log("{}") }
catch ({ message, cause }) {
    console.log(JSON.stringify({ message, cause }))
}`

before(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), "ipc-mutex-package-")))
    tarballs = pack(folder)
})

after(() => rmSync(folder, { recursive: true, force: true }))

describe("both packages in an empty folder", () => {
    let user

    before(() => {
        user = project("user", tarballs)
    })

    it("can be required, and lock", () => {
        const code = `const Mutex = require("ipc-mutex");
            (async () => { ${ROUND_TRIP}; console.log(Mutex === Mutex.Mutex, typeof Mutex.MutexError) })()`
        assert.equal(run(user, "main.cjs", code), "true function")
    })

    it("can be imported by default and by name, and lock", () => {
        const code = `import Mutex, { Mutex as named, MutexError } from "ipc-mutex"
            ${ROUND_TRIP}; console.log(Mutex === named, new MutexError("ERR_X", "x") instanceof Error)`
        assert.equal(run(user, "main.mjs", code), "true true")
    })

    it("are one package, whether required or imported", () => {
        const code = `import { createRequire } from "node:module"; import Mutex, { MutexError } from "ipc-mutex"
            const required = createRequire(import.meta.url)("ipc-mutex")
            console.log(required === Mutex, required.MutexError === MutexError)`
        assert.equal(run(user, "same.mjs", code), "true true")
    })

    it("use the binary of the platform package", () => {
        const code = `require("ipc-mutex"); console.log(Object.keys(require.cache).filter((file) => file.endsWith(".node")).join())`
        assert.equal(run(user, "binary.cjs", code), join(user, "node_modules", platformPackage, `ipc-mutex.${platformId()}.node`))
    })

    it("resolve in TypeScript for CommonJS and for modules", () => {
        for (const file of [ "commonjs.cts", "module.mts" ])
            writeFileSync(join(user, file), readFileSync(join(root, "__test__/types", file)))
        const { compilerOptions } = JSON.parse(readFileSync(join(root, "__test__/types/tsconfig.json"), "utf8"))
        compilerOptions.typeRoots = [ join(root, "node_modules/@types") ]
        // The typings of Node.js are the user's own; here they are the repository's.
        compilerOptions.paths = { "node:*": [ join(root, "node_modules/@types/node/*") ] }
        writeFileSync(join(user, "tsconfig.json"), JSON.stringify({ compilerOptions, include: [ "*.cts", "*.mts" ] }))
        execFileSync(process.execPath, [ join(root, "node_modules/typescript/bin/tsc"), "--project", user ], { stdio: "inherit" })
    })

    it("resolve in TypeScript without exports (moduleResolution node10), subpaths too", () => {
        writeFileSync(join(user, "old.ts"), `import Mutex = require("ipc-mutex")
            import advisoryLock = require("ipc-mutex/advisory-lock")
            import second = require("ipc-mutex/advisory-lock/v2")
            export const all: [ Mutex, advisoryLock.CreateMutex, second.CreateMutex ] = [ new Mutex("spm:x"), advisoryLock(), second("") ]`)
        const options = [ "--noEmit", "--strict", "--target", "es2022", "--module", "commonjs", "--moduleResolution", "node10", "--skipLibCheck",
            "--typeRoots", join(root, "node_modules/@types") ]
        execFileSync(process.execPath, [ join(root, "node_modules/typescript/bin/tsc"), ...options, "old.ts" ], { cwd: user, stdio: "inherit" })
    })

    it("refuse to work in different versions", () => {
        const file = join(user, "node_modules", platformPackage, "package.json")
        const before = readFileSync(file, "utf8")
        writeFileSync(file, before.replace(version, "1.9.9"))
        const { message } = JSON.parse(run(user, "error.cjs", PRINT_ERROR))
        writeFileSync(file, before)
        assert.ok(message.includes(`${platformPackage} has version 1.9.9, but ipc-mutex has version ${version}`), message)
    })
})

describe("the main package alone", () => {
    let alone

    before(() => {
        alone = project("alone", tarballs.slice(0, 1))
    })

    /** What loading it says. */
    const said = (code = PRINT_ERROR, options = []) => JSON.parse(run(alone, "error.cjs", code, options))

    it("installs, and says on loading what is missing and how to get it", () => {
        const { message, cause } = said()
        assert.ok(message.includes(`(${platformInWords()})`), message)
        assert.match(message, /optional dependencies were left out; run: npm install --include=optional/)
        assert.ok(cause.includes(platformPackage), cause)
        assert.equal(cause.includes("\n"), false)
    })

    it("tells a platform without binary, and node_modules of another system, apart from that", () => {
        const elsewhere = "Object.defineProperty(process, \"platform\", { value: \"sunos\" })\n"
        assert.match(said(elsewhere + PRINT_ERROR).message, /no binary is prebuilt for this platform/)
        const other = platforms.find(({ id }) => id !== platformId()).id
        const installed = join(alone, "node_modules", `ipc-mutex-${other}`)
        mkdirSync(installed)
        writeFileSync(join(installed, "package.json"), JSON.stringify({ name: `ipc-mutex-${other}`, version }))
        const { message } = said()
        rmSync(installed, { recursive: true })
        assert.ok(message.includes(`another system (it has ipc-mutex-${other}); delete node_modules`), message)
    })

    it("names --no-addons, and a binary that cannot be loaded, where that is the reason", () => {
        const file = join(alone, "node_modules/ipc-mutex", `ipc-mutex.${platformId()}.node`)
        writeFileSync(file, "not a library")
        const [ broken, forbidden ] = [ said(), said(PRINT_ERROR, [ "--no-addons" ]) ]
        rmSync(file)
        assert.match(broken.message, /the binary is installed but cannot be used: \S/)
        assert.match(forbidden.message, /Node\.js was started with --no-addons/)
    })

    it("knows the platforms that have a package", () => {
        assert.deepEqual(PLATFORMS, platforms.map(({ id }) => id))
    })

    it("contains what users load and nothing else", () => {
        const [ { files, unpackedSize } ] = JSON.parse(npm([ "pack", "--dry-run", "--json" ], root))
        const top = new Set(files.map(({ path }) => path.split("/")[0]))
        const allowed = [ "package.json", "README.md", "LICENSE", "CHANGELOG.md", "index.js", "index.mjs", "index.d.ts", "index.d.mts",
            "lib", "bin", "docs", "examples" ]
        assert.deepEqual([ ...top ].filter((name) => !allowed.includes(name)), [])
        for (const name of [ "LICENSE", "README.md", "index.js", "index.mjs", "index.d.ts", "index.d.mts", "lib" ])
            assert.ok(top.has(name), `${name} is missing`)
        // so that all that is installed, with the addon's 8 MB, stays below 10 MB
        assert.ok(unpackedSize < 1_000_000, `${unpackedSize} bytes`)
    })

    it("has a manifest in which npm corrects nothing when it publishes, for it removes commands that it calls invalid", () => {
        for (const source of [ root, join(root, "npm", platformId()) ]) {
            const copy = mkdtempSync(join(folder, "manifest-"))
            const manifest = readFileSync(join(source, "package.json"), "utf8")
            const { bin = {} } = JSON.parse(manifest)
            mkdirSync(join(copy, "bin"))
            for (const path of Object.values(bin))
                writeFileSync(join(copy, path), "")
            writeFileSync(join(copy, "package.json"), manifest)
            npm([ "pkg", "fix" ], copy)
            assert.deepEqual(JSON.parse(readFileSync(join(copy, "package.json"), "utf8")), JSON.parse(manifest))
        }
    })

    it("names files that exist in its exports and commands", () => {
        const { exports, bin = {}, main, types } = require("../../package.json")
        const leaves = (value) => typeof value === "string" ? [ value ] : Object.values(value).flatMap(leaves)
        for (const path of [ ...leaves(exports), ...leaves(bin), main, types ])
            assert.ok(readFileSync(join(root, path)).length > 0, path)
    })
})

describe("every licence of what is linked into the binary", () => {
    it("is accepted, and others are not", () => {
        assert.deepEqual(refused(platforms.find(({ id }) => id === platformId()).target), [])
        for (const [ expression, expected ] of [ [ "MIT", true ], [ "GPL-3.0", false ], [ "MIT OR GPL-3.0", true ], [ "MIT AND GPL-3.0", false ],
            [ "(MIT OR GPL-3.0) AND ISC", true ], [ "(GPL-3.0 OR LGPL-2.1) AND ISC", false ], [ "MIT/GPL-3.0", true ], [ "none", false ] ])
            assert.equal(isAccepted(expression), expected, expression)
    })
})

describe("the npm tarball of the platform", () => {
    it("contains the binary, its manifest, a README and all licences, and runs no script at installation", () => {
        const manifest = JSON.parse(readFileSync(join(root, "npm", platformId(), "package.json"), "utf8"))
        assert.equal(manifest.scripts, undefined)
        const [ { files } ] = JSON.parse(npm([ "pack", "--dry-run", "--json" ], join(root, "npm", platformId())))
        const names = [ "LICENSE", "README.md", "THIRD-PARTY-NOTICES.txt", `ipc-mutex.${platformId()}.node`, "package.json" ]
        assert.deepEqual(files.map(({ path }) => path).sort(), names)
        const notices = readFileSync(join(root, "npm", platformId(), "THIRD-PARTY-NOTICES.txt"), "utf8")
        for (const name of [ "tokio ", "rustls ", "ring ", "redis ", "Permission is hereby granted", "Apache License" ])
            assert.ok(notices.includes(name), `${name} is not in the notices`)
    })
})
