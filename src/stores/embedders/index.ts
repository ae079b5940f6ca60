/** The embedders, for bootstrap. */
export { createLexicalEmbedder, LEXICAL_EMBEDDER } from "./lexical.ts"
export { createOpenAiEmbedder, type OpenAiEmbedderOptions } from "./openai.ts"
