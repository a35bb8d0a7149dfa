import js from "@eslint/js";
import globals from "globals";

// The bundler (src/ilk/reports/bundle.py) reads imports and exports line by line, so it knows only these forms.
const bundled = [
  ["ImportDefaultSpecifier", "Import by name: import { name } from ..."],
  ["ImportNamespaceSpecifier", "Import by name: import { name } from ..."],
  ["ImportExpression", "The page is one file; import at the top of the module."],
  ["ExportDefaultDeclaration", "Export by name, where the name is declared."],
  ["ExportAllDeclaration", "Import each name from the module that declares it."],
  ["ExportNamedDeclaration[declaration=null]", "Export a name where it is declared."],
  ["ExportNamedDeclaration > VariableDeclaration[kind!='const']", "Exported variables are constants."],
  ["ExportNamedDeclaration > VariableDeclaration > VariableDeclarator > :not(Identifier).id", "Export one name."],
  ["ExportNamedDeclaration > VariableDeclaration[declarations.length>1]", "Export one name a declaration."],
  ["TemplateElement[value.raw=/\\n/]", "A template literal stays on one line."],
];

// Nothing in the page may read a string as markup or code.
const unsafe = ["innerHTML", "outerHTML", "insertAdjacentHTML", "srcdoc"].map((property) => ({
  property,
  message: "Strings become text nodes: use el() of lib/dom.js.",
}));

export default [
  js.configs.recommended,
  {
    files: ["**/*.js"],
    languageOptions: { ecmaVersion: 2023, sourceType: "module", globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "no-restricted-syntax": ["error", ...bundled.map(([selector, message]) => ({ selector, message }))],
      "no-restricted-properties": ["error", ...unsafe],
      "no-restricted-globals": ["error", "event", "name", "fetch", "XMLHttpRequest", "WebSocket"],
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-shadow": "error",
      "no-var": "error",
      "prefer-const": "error",
      eqeqeq: "error",
      "max-lines": ["error", 300],
    },
  },
];
