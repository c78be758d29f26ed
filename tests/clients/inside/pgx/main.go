// As ask.py, with pgx.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

type question struct{ Kind, SQL string }

func textOf(value any) string {
	switch it := value.(type) {
	case nil:
		return "null"
	case time.Time:
		if it.Equal(it.Truncate(24 * time.Hour)) {
			return it.Format(time.DateOnly)
		}
		return it.UTC().Format("2006-01-02T15:04:05-07:00")
	case float64:
		return strconv.FormatFloat(it, 'g', -1, 64)
	case pgtype.Numeric:
		if it.Exp < 0 {
			return fmt.Sprint(it)
		}
		return new(big.Int).Mul(it.Int, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(it.Exp)), nil)).String()
	case []any:
		entries := make([]string, len(it))
		for i, entry := range it {
			entries[i] = strconv.Quote(fmt.Sprint(entry))
		}
		return "[" + strings.Join(entries, ", ") + "]"
	case []byte:
		return fmt.Sprintf("\\x%x", it)
	}
	return fmt.Sprint(value)
}

func ask(connection *pgx.Conn, sql string) map[string]string {
	rows, err := connection.Query(context.Background(), sql)
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	defer rows.Close()
	if !rows.Next() {
		return map[string]string{"error": fmt.Sprint("no row: ", rows.Err())}
	}
	values, err := rows.Values()
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	return map[string]string{"type": fmt.Sprintf("%T", values[0]), "text": textOf(values[0])}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	var questions []question
	must(json.NewDecoder(os.Stdin).Decode(&questions))
	password, err := os.ReadFile("/run/secrets/database_reader_password")
	must(err)
	connection, err := pgx.Connect(context.Background(), fmt.Sprintf(
		"host=timescaledb port=5432 user=reader dbname=%s password=%s", os.Getenv("BRAID_DATABASE_NAME"), strings.TrimSpace(string(password))))
	must(err)
	answers := map[string]map[string]string{}
	for _, it := range questions {
		answers[it.Kind] = ask(connection, it.SQL)
	}
	version := "?"
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if module.Path == "github.com/jackc/pgx/v5" {
				version = strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{"version": version, "answers": answers}))
}
