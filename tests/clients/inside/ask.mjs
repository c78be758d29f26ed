// As ask.py, with node-postgres.
import { readFileSync } from "node:fs";
import pg from "pg";

const questions = JSON.parse(readFileSync(0, "utf8"));
const client = new pg.Client({
  host: "timescaledb",
  port: 5432,
  user: "reader",
  password: readFileSync("/run/secrets/database_reader_password", "utf8").trim(),
  database: process.env.BRAID_DATABASE_NAME,
});

function textOf(value) {
  if (value instanceof Date) return value.toISOString().replace(".000Z", "+00:00");
  if (Array.isArray(value)) return JSON.stringify(value.map(String)).replaceAll(",", ", ");
  return String(value);
}

function typeOf(value) {
  return value === null || typeof value !== "object" ? (value === null ? "null" : typeof value) : value.constructor.name;
}

await client.connect();
const answers = {};
for (const { kind, sql } of questions) {
  try {
    const { answer } = (await client.query(sql)).rows[0];
    answers[kind] = { type: typeOf(answer), text: textOf(answer) };
  } catch (error) {
    answers[kind] = { error: error.message };
  }
}
await client.end();
const { version } = JSON.parse(readFileSync(new URL("node_modules/pg/package.json", import.meta.url), "utf8"));
console.log(JSON.stringify({ version, answers }));
