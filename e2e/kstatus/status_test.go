// What other tools conclude from the statuses that the operator writes: kstatus by its own library, and Argo CD by the
// script that it would run. The rows are those of operator/src/status.rs, as objects.
package kstatus

import (
	"os"
	"testing"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type row struct {
	Name    string         `json:"name"`
	Object  map[string]any `json:"object"`
	Kstatus string         `json:"kstatus"`
	Argo    string         `json:"argo"`
}

func rows(t *testing.T) []row {
	t.Helper()
	text, err := os.ReadFile("rows.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	// Whole numbers have to stay whole, as from the API server.
	if err := utiljson.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) < 6 {
		t.Fatalf("there are %d rows", len(rows))
	}
	return rows
}

func TestKstatus(t *testing.T) {
	for _, row := range rows(t) {
		result, err := status.Compute(&unstructured.Unstructured{Object: row.Object})
		if err != nil {
			t.Fatalf("%s: %v", row.Name, err)
		}
		if string(result.Status) != row.Kstatus {
			t.Errorf("%s: kstatus says %s, expected %s", row.Name, result.Status, row.Kstatus)
		}
	}
}

func TestArgoCD(t *testing.T) {
	script, err := os.ReadFile("../../deploy/argocd/health.lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows(t) {
		state := lua.NewState()
		defer state.Close()
		state.SetGlobal("obj", value(state, row.Object))
		if err := state.DoString(string(script)); err != nil {
			t.Fatalf("%s: %v", row.Name, err)
		}
		health, is := state.Get(-1).(*lua.LTable)
		if !is {
			t.Fatalf("%s: the script gives no table", row.Name)
		}
		if said := health.RawGetString("status").String(); said != row.Argo {
			t.Errorf("%s: Argo CD says %s, expected %s", row.Name, said, row.Argo)
		}
	}
}

// As Argo CD hands objects to scripts.
func value(state *lua.LState, of any) lua.LValue {
	switch of := of.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, inner := range of {
			table.RawSetString(key, value(state, inner))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, inner := range of {
			table.Append(value(state, inner))
		}
		return table
	case string:
		return lua.LString(of)
	case int64:
		return lua.LNumber(of)
	case float64:
		return lua.LNumber(of)
	case bool:
		return lua.LBool(of)
	default:
		return lua.LNil
	}
}
