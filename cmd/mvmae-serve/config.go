package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/pelletier/go-toml/v2"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/internal/hint"
)

// configured is what a command has whose flags may also be set by the environment and by a file: the command line is above the
// environment, that above the file, that above the defaults.
type configured struct {
	Config string `placeholder:"FILE" help:"Take the settings of this TOML file that neither the command line nor the environment (MVMAE_SERVE_...) has: \"mvmae-serve config\" writes one."`

	settings []setting // every one, in the order of the flags
}

// setting is where a flag has its value from.
type setting struct {
	flag   *kong.Flag
	origin string
}

// value is what the environment or the file says of a flag.
type value struct{ text, origin string }

// notSettings are the flags that make no sense elsewhere than on the command line.
var notSettings = []string{"help", "version", "config", "check"}

func keyOf(f *kong.Flag) string { return strings.ReplaceAll(f.Name, "-", "_") }

func variableOf(key string) string { return "MVMAE_SERVE_" + strings.ToUpper(key) }

// BeforeResolve has kong take the values that the command line lacks from the environment and the file.
func (c *configured) BeforeResolve(ctx *kong.Context) error {
	given := map[*kong.Flag]bool{}
	for _, p := range ctx.Path {
		if p.Flag != nil {
			given[p.Flag] = true
		}
	}
	var file string
	var keys []string
	c.settings = nil
	for _, f := range ctx.Flags() {
		if f.Name == "config" {
			path, _ := ctx.FlagValue(f).(string)
			file = cmp.Or(path, os.Getenv(variableOf("config")))
		}
		if !slices.Contains(notSettings, f.Name) {
			c.settings = append(c.settings, setting{f, "default"})
			keys = append(keys, keyOf(f))
		}
	}
	values, err := readConfig(file, keys)
	if err != nil {
		return err
	}
	for i, s := range c.settings {
		key := keyOf(s.flag)
		if text, set := os.LookupEnv(variableOf(key)); set {
			values[key] = value{text, variableOf(key)}
		}
		v, set := values[key]
		switch {
		case given[s.flag]:
			c.settings[i].origin = "command line"
		case set:
			c.settings[i].origin = v.origin
			// kong would not say where a bad value comes from.
			if err := s.flag.Parse(kong.Scan().PushTyped(v.text, kong.FlagValueToken), reflect.New(s.flag.Target.Type()).Elem()); err != nil {
				return fmt.Errorf("%s: %w", v.origin, err)
			}
		}
	}
	ctx.AddResolver(kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, f *kong.Flag) (any, error) {
		if v, set := values[keyOf(f)]; set && !slices.Contains(notSettings, f.Name) {
			return v.text, nil
		}
		return nil, nil
	}))
	return nil
}

// readConfig reads a file of settings, none if path is "". A key that is no setting is an error that names the nearest one.
func readConfig(path string, keys []string) (map[string]value, error) {
	values := map[string]value{}
	if path == "" {
		return values, nil
	}
	doc, err := os.ReadFile(path)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("config: %w", err), `"mvmae-serve config > FILE" writes one`)
	}
	var tree map[string]any
	var bad *toml.DecodeError
	if err := toml.Unmarshal(doc, &tree); errors.As(err, &bad) {
		row, column := bad.Position()
		return nil, fmt.Errorf("%s:%d:%d: %w", path, row, column, err)
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var errs []error
	for key, v := range tree {
		origin := fmt.Sprintf("%s:%d", path, lineOf(string(doc), key))
		text, err := textOf(v)
		switch {
		case !slices.Contains(keys, key):
			err = hint.Wrap(fmt.Errorf("%s: unknown key %s", origin, key), `"mvmae-serve config" prints every key`)
			if near := hint.Nearest(key, keys); near != "" {
				err = hint.Wrap(err, "did you mean %s?", near)
			}
			errs = append(errs, err)
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %s: %w", origin, key, err))
		}
		values[key] = value{text, origin}
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return values, errors.Join(errs...)
}

// lineOf is the line that sets a key of a flat document.
func lineOf(doc, key string) int {
	n := 0
	for line := range strings.Lines(doc) {
		n++
		name, _, _ := strings.Cut(line, "=")
		if strings.Trim(name, " \t\"'[]\r\n") == key {
			return n
		}
	}
	return 1
}

// textOf is a value as the command line would have it.
func textOf(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool, int64, float64:
		return fmt.Sprint(v), nil
	case []any:
		var list []string
		for _, one := range v {
			text, err := textOf(one)
			if err != nil {
				return "", err
			}
			list = append(list, text)
		}
		return kong.JoinEscaped(list, ','), nil
	}
	return "", errors.New("it takes a text, a number, true or false, or a list of them")
}

// ConfigCmd shows what up would work with.
type ConfigCmd struct {
	UpCmd `embed:""`
}

// settingDoc is a setting under --json.
type settingDoc struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Origin string `json:"origin"`
}

// Run prints every setting with its origin, as a file that --config takes.
func (c *ConfigCmd) Run(_ context.Context, out *cli.Output) error {
	docs := []settingDoc{}
	for _, s := range c.settings {
		v := plain(s.flag.Target)
		docs = append(docs, settingDoc{keyOf(s.flag), v, s.origin})
		line := keyOf(s.flag) + " = " + literal(v)
		if v == "" || s.origin == "default" {
			line = "# " + line
		}
		out.Printf("%-40s # %s\n", line, s.origin)
	}
	return errors.Join(out.Result(map[string]any{"settings": docs}), cli.Exit(cli.ExitUsage, c.validate()))
}

// plain is a flag's value as JSON and TOML know it.
func plain(v reflect.Value) any {
	if text, ok := v.Interface().(fmt.Stringer); ok {
		if v.IsZero() && v.Kind() == reflect.Struct {
			return ""
		}
		return text.String()
	}
	switch v.Kind() {
	case reflect.Slice:
		list := []string{}
		for i := range v.Len() {
			list = append(list, fmt.Sprint(v.Index(i).Interface()))
		}
		return list
	case reflect.Bool:
		return v.Bool()
	case reflect.Int, reflect.Int64:
		return v.Int()
	case reflect.Float64:
		return v.Float()
	}
	return v.String()
}

// literal is a value in TOML.
func literal(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case []string:
		var list []string
		for _, one := range v {
			list = append(list, strconv.Quote(one))
		}
		return "[" + strings.Join(list, ", ") + "]"
	}
	return fmt.Sprint(v)
}
