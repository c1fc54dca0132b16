// Package synth makes chest radiographs of patients who do not exist: a phantom world to train, test and show on where the
// real datasets need credentials.
//
// A patient is a body of simple solids in three dimensions: ellipsoids for the trunk, the lungs, the heart and what else
// is soft, discs for vertebrae, bent tubes for ribs, vessels and wires. Findings are placed in the body: fluid that fills a
// pleural cavity from below, air that collapses a lung, a nodule behind the heart. A view integrates attenuation along the
// diverging rays of a real stand or a mobile tube (Beer-Lambert), so every finding appears in each view where it lies, and
// some in one of them only. The integrals are exact per solid: no voxels, no ray marching. Then an Institution's detector and
// display make a picture of it: collimator, point spread, scatter, quantum noise, edge enhancement, look-up table, letters.
//
// Four institutions stand for four datasets: findings are as common there as in the dataset's table, alone and together, and
// a report says what is there, what may be and what is not, of which an automatic labeller makes labels with its errors.
//
// Generate writes studies in the dataset's layout, or as DICOM files, with tables of the truth; Sheet draws the world on a page.
// NewPatient, NewStudy, RenderView and [Study.Report] are their parts. docs/phantom.md leads through the files. All follows from
// (seed, patient, visit, view); the order of work changes nothing.
//
// The pictures are for machines and demonstrations. They are no teaching material, and no model trained on them has seen a
// patient.
package synth
