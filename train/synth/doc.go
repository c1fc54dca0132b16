// Package synth makes chest radiographs of patients who do not exist: a phantom world to train, test and show on where the
// real datasets need credentials.
//
// A patient is a body of simple solids in three dimensions: ellipsoids for the trunk, the lungs, the heart and what else
// is soft, discs for vertebrae, bent tubes for ribs, vessels and wires. Findings are placed in the body: fluid that fills a
// pleural cavity from below, air that collapses a lung, a nodule behind the heart. A view integrates attenuation along the
// diverging rays of a real stand (Beer-Lambert), so every finding appears in the frontal and the lateral image where it
// lies, and some in one of them only. The integrals are exact per solid: no voxels, no ray marching. Then come
// scatter, quantum noise, a display curve and the small errors of positioning.
//
// Four institutions stand for four datasets: findings are as common there as in the dataset's table, alone and together, and
// a report says what is there, what may be and what is not, of which an automatic labeller makes labels with its errors.
//
// Generate writes studies in the dataset's layout, or as DICOM files, with tables of the truth. NewPatient, NewStudy, RenderView and
// [Study.Report] are its parts. All follows from (seed, patient, visit, view); the order of work changes nothing.
//
// The pictures are for machines and demonstrations. They are no teaching material, and no model trained on them has seen a
// patient.
package synth
