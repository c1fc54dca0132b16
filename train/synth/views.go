package synth

// The sets of views of the datasets' studies, and their shares: counted in the tables of PadChest and CheXpert, all sets that
// more than one study in a thousand has, the rest with its likest. ChestX-ray14 tells no studies: each image is one.
// MIMIC-CXR's table needs credentials: its sets are chosen so that a study has 377,110/227,835 = 1.66 images, and of these four
// in ten are AP, as published (Johnson et al. 2019). A supine AP image stands for PadChest's few upright ones too.
var (
	mimicViews = []Protocol{
		{0.33, []Projection{PA, LL}},
		{0.06, []Projection{PA, LL, LL}},
		{0.02, []Projection{PA, PA, LL}},
		{0.42, []Projection{AP}},
		{0.06, []Projection{AP, AP}},
		{0.04, []Projection{AP, LL}},
		{0.01, []Projection{AP, AP, LL}},
		{0.01, []Projection{AP, AP, AP}},
		{0.03, []Projection{PA}},
		{0.01, []Projection{LL}},
		{0.005, []Projection{PA, LL, LAO}},
		{0.005, []Projection{PA, LL, RAO, LAO}},
	}
	chexpertViews = []Protocol{
		{0.8078, []Projection{AP}},
		{0.1352, []Projection{PA, LL}},
		{0.0229, []Projection{AP, LL}},
		{0.0130, []Projection{AP, AP}},
		{0.0110, []Projection{PA}},
		{0.0037, []Projection{PA, PA, LL}},
		{0.0032, []Projection{AP, LL, LL}},
		{0.0025, []Projection{PA, LL, LL}},
		{0.0007, []Projection{AP, AP, LL}},
	}
	padchestViews = []Protocol{
		{0.4239, []Projection{PA, LL}},
		{0.3819, []Projection{PA}},
		{0.1613, []Projection{AP}},
		{0.0087, []Projection{LL}},
		{0.0054, []Projection{PA, PA}},
		{0.0044, []Projection{PA, PA, LL}},
		{0.0041, []Projection{PA, LL, LL}},
		{0.0028, []Projection{AP, LL}},
		{0.0024, []Projection{AP, AP}},
		{0.0017, []Projection{PA, LL, RAO, LAO}},
		{0.0010, []Projection{RAO, LAO}},
		{0.0024, []Projection{PA, PA, LL, LL}},
	}
	nihViews = []Protocol{
		{0.6003, []Projection{PA}},
		{0.3997, []Projection{AP}},
	}
)
