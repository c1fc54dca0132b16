package synth

import (
	"math"
	"syscall"
	"testing"
	"time"
)

// bare is a view with nothing but its geometry.
func bare(projection Projection) *View {
	return &View{Projection: projection, setup: setupOf(projection), detector: Plain.Detector, toDetector: 150}
}

func integrate(sc *scene, v *View, size int) []float64 {
	r := newRenderer(size)
	r.integrals(sc, newCamera(v, size))
	return r.sum
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance {
		t.Errorf("%s = %g, want %g within %g", what, got, want, tolerance)
	}
}

// The size is odd in these tests: one pixel lies on the central ray.

func TestIntegrals_CentralChordsAreExact(t *testing.T) {
	const size, centre = 65, 65*32 + 32
	ball := upright(vec{}, 50, 50, 50)
	lungs := func(l lung) [2]lung { return [2]lung{{cavity: upright(vec{x: 900}, 1, 1, 1)}, l} }
	cavity := upright(vec{}, 40, 40, 40)
	cases := []struct {
		name string
		scene
		want float64
	}{
		{"ball", scene{body: []solid{ball}}, 100 * muSoft},
		{"bodies that overlap count once", scene{body: []solid{ball, upright(vec{y: 50}, 50, 50, 50)}}, 150 * muSoft},
		{"turned ellipsoid", scene{body: []solid{ellipsoid(vec{}, 20, 30, 70, rotation(math.Pi/2, 0, 0))}}, 140 * muSoft},
		{"disc along the ray", scene{dense: []density{{disc(vec{}, 20, 20, 4, rotation(math.Pi/2, 0, 0)), 0.2}}}, 8 * 0.2},
		{"disc across the ray", scene{dense: []density{{disc(vec{}, 20, 30, 9, rotation(0, 0, 0)), 0.2}}}, 60 * 0.2},
		{"lung in a body", scene{body: []solid{ball}, lungs: lungs(lung{cavity: cavity, mu: muLung, floor: -99})}, 20*muSoft + 80*muLung},
		{"lung below its floor", scene{body: []solid{ball}, lungs: lungs(lung{cavity: cavity, mu: muLung, floor: 10})}, 100 * muSoft},
		{"heart in a lung", scene{body: []solid{ball}, soft: []solid{upright(vec{y: 5}, 15, 15, 15)},
			lungs: lungs(lung{cavity: cavity, mu: muLung, floor: -99})}, 50*muSoft + 50*muLung},
		{"hard opacity, cut by the cavity", scene{lungs: lungs(lung{cavity: cavity, floor: -99,
			opaque: []blob{{upright(vec{y: 40}, 10, 10, 10), 0.01, false}}})}, 10*0.01 - 80*muSoft},
		{"soft opacity", scene{lungs: lungs(lung{cavity: cavity, floor: -99,
			opaque: []blob{{upright(vec{}, 30, 30, 30), 0.01, true}}})}, 60*2./3*0.01 - 80*muSoft},
		{"soft opacity, half of it in the cavity", scene{lungs: lungs(lung{cavity: cavity, floor: -99,
			opaque: []blob{{upright(vec{y: 40}, 30, 30, 30), 0.01, true}}})}, 30*2./3*0.01 - 80*muSoft},
		{"opacity no denser than tissue", scene{lungs: lungs(lung{cavity: cavity, mu: muLung, floor: -99,
			opaque: []blob{{upright(vec{}, 90, 90, 90), 1, false}}})}, 0},
		{"fluid", scene{body: []solid{ball}, lungs: lungs(lung{cavity: cavity, mu: muLung, floor: -99, inner: ref(upright(vec{z: 90}, 5, 5, 5))})}, 100 * muSoft},
		{"collapsed lung", scene{body: []solid{ball}, lungs: lungs(lung{cavity: cavity, mu: muLung, floor: -99, collapsed: true,
			inner: ref(cavity.grown(0.5)), rim: cavity.grown(0.45)})}, 20*muSoft + 40*muLung + 4*muSoft},
		{"tube across the ray", scene{tubes: []tube{even([]vec{{z: -50}, {z: 50}}, 12, 0.03)}}, 24 * 0.03},
		{"tube aslant", scene{tubes: []tube{even([]vec{{y: -30, z: -30}, {y: 30, z: 30}}, 9, 0.03)}}, 18 * math.Sqrt2 * 0.03},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.lungs[0].cavity.radius == 0 {
				c.lungs = lungs(lung{cavity: upright(vec{x: 900}, 1, 1, 1)})
			}
			tolerance := 1e-9
			if len(c.tubes) > 0 {
				tolerance = 1e-3 * c.want // rays count as parallel over a piece
			}
			near(t, "integral", integrate(&c.scene, bare(PA), size)[centre], c.want, tolerance)
		})
	}
}

func ref(s solid) *solid { return &s }

// What a solid takes from the beam grows with its volume alone: pixels summed over their area at its depth.
func TestIntegrals_SumIsVolume(t *testing.T) {
	const size, mu = 257, 0.01
	away := [2]lung{{cavity: upright(vec{x: 900}, 1, 1, 1)}, {cavity: upright(vec{x: 900}, 1, 1, 1)}}
	cases := []struct {
		name   string
		scene  scene
		at     vec     // its centre
		volume float64 // mm3
	}{
		{"ellipsoid", scene{dense: []density{{ellipsoid(vec{30, 0, 20}, 20, 30, 40, rotation(0.4, 1, 2)), mu}}}, vec{30, 0, 20}, 4. / 3 * math.Pi * 20 * 30 * 40},
		{"disc", scene{dense: []density{{disc(vec{-40, 0, -50}, 25, 15, 10, rotation(0.5, 0.2, 0)), mu}}}, vec{-40, 0, -50}, math.Pi * 25 * 15 * 20},
		{"tube", scene{tubes: []tube{even([]vec{{z: -60}, {x: 50, y: 0, z: 40}}, 6, mu)}}, vec{x: 25}, math.Pi*36*math.Hypot(50, 100) + 4./3*math.Pi*216},
		{"wire thinner than a pixel", scene{tubes: []tube{even([]vec{{z: -60}, {x: 50, y: 0, z: 40}}, 0.3, mu)}}, vec{x: 25}, math.Pi * 0.09 * math.Hypot(50, 100)},
	}
	for _, c := range cases {
		for _, projection := range []Projection{PA, LL} {
			t.Run(c.name+" "+string(projection), func(t *testing.T) {
				c.scene.lungs = away
				v := bare(projection)
				_, _, perMM := newCamera(v, size).project(c.at)
				sum := 0.0
				for _, x := range integrate(&c.scene, v, size) {
					sum += x / perMM / perMM
				}
				// 4 %: pixels are samples, depths differ a little, rays are aslant.
				near(t, "volume", sum/mu, c.volume, 0.04*c.volume)
			})
		}
	}
}

func TestProject_AgreesWithIntegrals(t *testing.T) {
	const size = 256
	away := [2]lung{{cavity: upright(vec{x: 900}, 1, 1, 1)}, {cavity: upright(vec{x: 900}, 1, 1, 1)}}
	views := []*View{bare(PA), bare(LL), bare(AP), bare(RAO), bare(LAO), {setup: setupOf(PA), detector: Plain.Detector, toDetector: 130, turn: 0.06, lean: -0.05, roll: 0.04, shift: vec{9, -7, 25}}}
	for _, v := range views {
		for _, at := range []vec{{}, {60, -40, 80}, {-90, 70, -60}} {
			sc := &scene{dense: []density{{upright(at, 6, 6, 6), 1}}, lungs: away}
			col, row := centroid(integrate(sc, v, size), size)
			wantCol, wantRow, _ := newCamera(v, size).project(at)
			near(t, "column", col, wantCol, 0.1)
			near(t, "row", row, wantRow, 0.1)
		}
	}
}

// centroid is the mean place of a picture's absolute values, pixels.
func centroid(picture []float64, size int) (col, row float64) {
	total := 0.0
	for i, x := range picture {
		x = math.Abs(x)
		total += x
		col += x * float64(i%size)
		row += x * float64(i/size)
	}
	return col / total, row / total
}

func TestUnion_CountsOverlapsOnce(t *testing.T) {
	cases := []struct {
		name string
		ivs  []interval
		want float64
	}{
		{"none", nil, 0},
		{"apart", []interval{{5, 6}, {1, 3}}, 3},
		{"overlapping", []interval{{2, 5}, {1, 3}}, 4},
		{"nested", []interval{{1, 9}, {2, 3}, {4, 5}}, 8},
		{"empty one", []interval{{3, 1}, {1, 2}}, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { near(t, "length", union(c.ivs), c.want, 0) })
	}
}

func TestSegments_Cut(t *testing.T) {
	cases := []struct {
		name string
		cuts []interval
		want float64
	}{
		{"outside", []interval{{-3, 0}, {10, 12}}, 10},
		{"an end", []interval{{-3, 2}}, 8},
		{"the middle", []interval{{4, 6}}, 8},
		{"all", []interval{{-1, 11}}, 0},
		{"overlapping", []interval{{2, 5}, {4, 7}, {1, 3}}, 4},
		{"nothing", []interval{{6, 6}, {7, 5}}, 10},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := segments{n: 1}
			s.iv[0] = interval{0, 10}
			for _, cut := range c.cuts {
				s.cut(cut)
			}
			near(t, "left", s.length(), c.want, 0)
		})
	}
}

// The rate is by the process's time, so that it is a core's on a busy machine too.
func BenchmarkRender_512(b *testing.B) {
	studies, _ := census(&Plain, 1, 40)
	r := newRenderer(512)
	used := func() float64 {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			b.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
	}
	n, start := 0, used()
	for b.Loop() {
		s := studies[n%len(studies)]
		s.render(r, &s.Views[0])
		n++
	}
	b.ReportMetric(float64(n)/(used()-start), "images/core-s")
}
