import js from "@eslint/js"
import globals from "globals"

const layout = {
    "indent": [ "error", 4, { SwitchCase: 1, ignoredNodes: [ "ConditionalExpression" ] } ],
    "semi": [ "error", "never" ],
    "no-unexpected-multiline": "error",
    "quotes": [ "error", "double", { avoidEscape: true, allowTemplateLiterals: true } ],
    "no-trailing-spaces": "error",
    "eol-last": "error",
    "max-len": [ "error", { code: 160, ignoreUrls: true, ignoreRegExpLiterals: true, ignorePattern: "^ *// \\|" } ]
}

const meaning = {
    "eqeqeq": "error",
    "no-var": "error",
    "prefer-const": "error",
    "no-throw-literal": "error",
    "no-unused-vars": [ "error", { argsIgnorePattern: "^_", caughtErrors: "none" } ],
    "no-restricted-properties": [ "error", { object: "Date", property: "now", message: "jumps with the wall clock; use performance.now()" } ]
}

export default [
    { ignores: [ "target/", "npm/", "**/*.d.ts", "benches/results/" ] },
    js.configs.recommended,
    {
        languageOptions: { ecmaVersion: 2023, globals: globals.node },
        rules: { ...layout, ...meaning }
    },
    { files: [ "**/*.js", "**/*.cjs" ], languageOptions: { sourceType: "commonjs" }, rules: { strict: [ "error", "global" ] } },
    { files: [ "**/*.mjs" ], languageOptions: { sourceType: "module" } },
    { files: [ "examples/**" ], languageOptions: { ecmaVersion: 2026 } },
    // What is measured and shown to people may well be in wall-clock time.
    { files: [ "__test__/**", "scripts/**", "benches/**", "examples/**" ], rules: { "no-restricted-properties": "off" } }
]
