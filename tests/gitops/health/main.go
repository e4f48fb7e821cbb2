// Command health asks a health script of Argo CD about a resource, as Argo CD does: in the same interpreter, with the
// same libraries, and with the resource in the global variable obj.
//
//	health SCRIPT <resource.json
//
// It prints what the script answers as JSON, of which Argo CD reads the status and the message.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	lua "github.com/yuin/gopher-lua"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: health SCRIPT <resource.json")
	}
	script, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	resource, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var object map[string]any
	if err := json.Unmarshal(resource, &object); err != nil {
		return err
	}

	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	libraries := map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage,
		lua.BaseLibName: lua.OpenBase,
		lua.TabLibName:  lua.OpenTable,
	}
	for name, open := range libraries {
		call := lua.P{Fn: state.NewFunction(open), Protect: true}
		if err := state.CallByParam(call, lua.LString(name)); err != nil {
			return err
		}
	}
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoString(string(script)); err != nil {
		return err
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return fmt.Errorf("the script answers with a %s and not with a table", state.Get(-1).Type())
	}
	return print(answer)
}

func print(answer *lua.LTable) error {
	fields := map[string]string{}
	var err error
	answer.ForEach(func(name, value lua.LValue) {
		text, ok := value.(lua.LString)
		if !ok {
			err = fmt.Errorf("%s is a %s and not a text", name, value.Type())
		}
		fields[name.String()] = string(text)
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(fields)
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case float64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		table := state.CreateTable(len(value), 0)
		for _, item := range value {
			table.Append(toLua(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(value))
		for name, item := range value {
			table.RawSetString(name, toLua(state, item))
		}
		return table
	default:
		return lua.LNil
	}
}
